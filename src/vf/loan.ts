import { IFF_UP, type Link } from '../kernel/link-message.ts';
import { setLink } from '../kernel/link.ts';
import type { Host } from './host.ts';
import { flagsOf, type Modes } from './modes.ts';

/**
 * The name that a netdev has on the host while it is lent: Docker moves it without renaming it first, so that it must be nobody's in any
 * container. "v0110_0" for 0000:01:10.0, with the PCI domain before that where it is another one. A slave of a bond has it, too: however long
 * the names of two bonds in a pod are, none of their slaves are called the same.
 */
export function lentName(pci: string): string {
  const [domain = '', bus = '', slot = ''] = pci.split(':');
  return `v${domain === '0000' ? '' : domain}${bus}${slot.replace('.', '_')}`;
}

/** Takes the netdev down, and gives it the name, MTU and modes that it is lent with: Docker's moves change none of them. */
export async function dressForLoan(
  host: Host,
  link: Link,
  ifname: string,
  { mtu, modes }: { readonly mtu: number | undefined; readonly modes?: Modes | undefined },
): Promise<void> {
  const { rtnl } = host.netns;
  // First and alone: before Linux 6.2 a link that is up cannot be renamed, and flags are the last that one message changes.
  const { setFlags, clearFlags } = flagsOf(modes);
  if (link.flags & (IFF_UP | clearFlags) || setFlags & ~link.flags)
    await setLink(rtnl, `take ${link.ifname} down`, link.ifindex, {
      setFlags,
      clearFlags: IFF_UP | clearFlags,
    });
  await setLink(rtnl, `rename ${link.ifname} to ${ifname}`, link.ifindex, {
    ifname: ifname === link.ifname ? undefined : ifname,
    mtu: mtu === link.mtu ? undefined : mtu,
  });
}
