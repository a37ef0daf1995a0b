/**
 * A bond of two devices in one attachment. Each device has a claim of its own, which brings it back by the same code as any other; the bond
 * itself lives and dies in the pod's namespace, and there is nothing of it to bring back. fail_over_mac is "active": the bond goes by the MAC
 * of the VF that is active, and the kernel sets none on a VF. With any other the bond sets one VF's MAC on the other, which a PF refuses that
 * has given that one its MAC (igb, ixgbe), or whose spoof check it does not pass.
 */
import { addBond, deleteLink, getBond, setPrimary } from '../kernel/bond-link.ts';
import { Errno, isErrno } from '../kernel/errno.ts';
import { IFF_UP, type Link } from '../kernel/link-message.ts';
import { getLink, getLinkByName, setLink } from '../kernel/link.ts';
import type { Phases } from '../kernel/log.ts';
import { modprobe } from '../kernel/modprobe.ts';
import type { Netns } from '../kernel/netns.ts';
import type { PodClaim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { findPf, NotUsable, standsAlone, type Vf } from '../vf/inventory.ts';
import { flagsOf } from '../vf/modes.ts';
import { Failure } from './failure.ts';
import { openPodOf, takenName } from './pod.ts';
import { type AllTaken, type Taken, takeDevice } from './ready.ts';
import { type Caller, type Device, type Wish, wishesOf } from './wish.ts';

/**
 * Takes both devices, in the order of the addresses of what they are taken from: of two that want the same two, one gets both. Nothing of
 * the host is changed, but what a stale claim left.
 * @returns them in the order of their own addresses, in which their claims are found again
 * @throws Failure; NotUsable
 */
export async function takeBoth(
  host: Host,
  wish: Wish,
  asker: string,
  ipam: string | undefined,
  caller: Caller,
  phases: Phases,
): Promise<AllTaken> {
  const wishes = wishesOf(wish).map((one) => ({ one, pci: addressOf(host, one.device) }));
  const taken: Taken[] = [];
  const giveUp = () => taken.forEach((one) => one[Symbol.dispose]());
  try {
    for (const { one } of wishes.sort((a, b) => (a.pci < b.pci ? -1 : 1)))
      taken.push(await takeDevice(host, one, asker, ipam, caller, phases));
    refusePair(wish, taken);
    await loadBonding(host);
  } catch (error) {
    giveUp();
    throw error;
  }
  const [first, second] = taken.sort((a, b) => (a.vf.pci < b.vf.pci ? -1 : 1)) as [Taken, Taken];
  return { first, second, [Symbol.dispose]: giveUp };
}

/** The address of a device, or of the PF that it is taken from. @throws NotUsable */
function addressOf(host: Host, device: Device | undefined): string {
  if (device?.kind === 'vf') return device.pci;
  const [source] = device?.kind === 'pool' ? device.pool.pfs : [];
  return source ? findPf(host.sys, source.pf).pci : '';
}

/** @throws NotUsable, Failure */
export function refusePair({ settings }: Wish, devices: readonly Pick<Taken, 'vf' | 'plan'>[]): void {
  const userspace = devices.find(({ plan }) => plan.userspace !== undefined);
  if (userspace)
    throw new NotUsable(
      `VF ${userspace.vf.pci} is on the driver ${userspace.plan.userspace}, with which it has no interface: a bond needs two`,
    );
  const [first, second] = devices;
  if (settings.mac === undefined || !first || !second || standsAlone(first.vf)) return;
  if (first.vf.pf.pci === second.vf.pf.pci)
    throw new Failure(
      'bad wish',
      `Invalid network configuration: both VFs of the bond are of one PF (${first.vf.pf.pci}), which delivers to only one of two ` +
        'that have the same "mac"',
    );
}

/** Loads the kernel's driver, which by default makes a bond0 for the host when it is loaded. @throws NotUsable */
async function loadBonding({ sys }: Host): Promise<void> {
  const isThere = () => sys.exists('class/net/bonding_masters') || sys.exists('module/bonding');
  if (isThere()) return;
  const why = await modprobe('bonding', 'max_bonds=0');
  if (!isThere())
    throw new NotUsable(`Cannot bond two devices: this kernel has no driver "bonding" (${why})`);
}

/** Makes the bond in the pod, down and without slaves. @throws KernelError; Failure `taken` */
export async function makeBond(
  host: Host,
  pod: Netns,
  { podIfname, mtu, bond }: Wish,
  parts: readonly { readonly device: Taken }[],
): Promise<Link> {
  const fields = { ifname: podIfname, vfs: parts.map(({ device }) => device.vf.pci).join(' ') };
  const smallestMtu = Math.min(...parts.map(({ device }) => device.plan.link?.mtu ?? 1500));
  return host.log.change('bond made in the pod', fields, async () => {
    try {
      const options = { ifname: podIfname, mtu: mtu ?? smallestMtu, miimonMs: bond?.miimonMs ?? 0 };
      const [vf, other] = parts.map(({ device }) => device.vf.pci) as [string, string];
      await addBond(pod.rtnl, bondIfindex(vf, other), options);
    } catch (error) {
      if (!isErrno(error, Errno.EEXIST)) throw error;
      throw takenName(podIfname); // just now
    }
    return present(podIfname, await getLinkByName(pod.rtnl, podIfname));
  });
}

/** Brings the bond up, which has its slaves now. */
export async function startBond(
  pod: Netns,
  made: Link,
  { bond, modes }: Wish,
  slaves: readonly { readonly vf: Vf; readonly link: Link }[],
): Promise<Link> {
  const primary = slaves.find(({ vf: { pci, pf } }) =>
    [pci, pf.pci, pf.ifname].includes(bond?.primary ?? ''),
  );
  if (primary) await setPrimary(pod.rtnl, made.ifindex, primary.link.ifindex);
  const { setFlags } = flagsOf(modes);
  await setLink(pod.rtnl, `bring ${made.ifname} up`, made.ifindex, { setFlags: IFF_UP | setFlags });
  return present(made.ifname, await getLink(pod.rtnl, made.ifindex));
}

function present(ifname: string, link: Link | undefined): Link {
  if (link) return link;
  throw new NotUsable(`The bond is not in the pod as "${ifname}", although the kernel made it`);
}

/** The bond that a link is a slave of. */
export async function bondOfSlave(pod: Netns, { master }: Link): Promise<Link | undefined> {
  const bond = master === undefined ? undefined : await getBond(pod.rtnl, master);
  return bond && getLink(pod.rtnl, bond.ifindex);
}

/**
 * The index that a bond has in its pod: made of the address of its first VF, so that it is found again whatever it is called by then, and no
 * other call's bond is taken for it. The kernel itself counts from 1.
 */
export function bondIfindex(pci: string, other: string): number {
  const [domain = '', bus = '', slot = ''] = (pci < other ? pci : other).split(':');
  const [device = '', fn = ''] = slot.split('.');
  const [d, b, s, f] = [domain, bus, device, fn].map((part) => Number.parseInt(part, 16)) as [
    number,
    number,
    number,
    number,
  ];
  return 0x4000_0000 + ((d & 0x3fff) << 16) + (b << 8) + (s << 3) + f;
}

/**
 * Deletes the bond of a claim, if its pod is there: both of its slaves are free then, and nobody can use the address any more.
 */
export async function removeBond(host: Host, claim: PodClaim, { netns }: Caller): Promise<void> {
  const { vf, bond } = claim;
  if (!bond) return;
  using pod = openPodOf(claim, netns);
  const found = pod && (await getBond(pod.rtnl, bondIfindex(vf.pci, bond.other)));
  if (!pod || !found) return;
  const fields = { vf: vf.pci, ifname: found.ifname };
  await host.log.change('bond removed from the pod', fields, () => deleteLink(pod.rtnl, found.ifindex));
}
