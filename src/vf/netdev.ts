import { Errno, isErrno } from '../kernel/errno.ts';
import { IFF_ALLMULTI, IFF_PROMISC, IFF_UP, type Link } from '../kernel/link-message.ts';
import { changeAltnames, getLink, getLinkByName, listLinks, RTNLGRP_LINK, setLink } from '../kernel/link.ts';
import { system } from '../kernel/system.ts';
import type { Netns } from '../kernel/netns.ts';
import type { Host } from './host.ts';
import { isNetdevOf, netdevNames, NotUsable, type Vf, vfName } from './inventory.ts';
import { flagsOf, type Modes } from './modes.ts';
import { Unsupported } from './settings.ts';

/** What a VF's netdev was like on the host, and shall be again. */
export interface NetdevState {
  readonly ifname: string;
  readonly altnames: readonly string[];
  readonly mac: string;
  readonly mtu: number;
  readonly alias?: string | undefined;
  readonly promisc: boolean;
  readonly allmulti: boolean;
  /** Of a NIC, the MAC that it was born with: which NIC it is, should another one be in its place by now. */
  readonly permMac?: string | undefined;
}

export function netdevState(link: Link): NetdevState {
  return {
    ifname: link.ifname,
    altnames: link.altnames,
    mac: link.mac,
    mtu: link.mtu,
    alias: link.alias,
    promisc: (link.flags & IFF_PROMISC) !== 0,
    allmulti: (link.flags & IFF_ALLMULTI) !== 0,
  };
}

/** A driver that was just bound may register its netdev from a work queue (iavf); a dying namespace gives it back from one, too. */
const netdevTimeoutMs = 5_000;

/** The VF's netdev in the host's namespace, as sysfs tells it; undefined if it is not there. */
export async function findOnHost(host: Host, pci: string): Promise<Link | undefined> {
  // udev may rename it between the two looks, and another may have its name then
  for (let tries = 0; tries < 10; tries++) {
    const ifname = hostIfname(host, pci);
    if (ifname === undefined) return undefined;
    const link = await getLinkByName(host.netns.rtnl, ifname);
    if (link && isNetdevOf(host.sys, pci, link)) return link;
  }
  return undefined;
}

function hostIfname(host: Host, pci: string): string | undefined {
  return netdevNames(host.sys, pci)[0];
}

/** Like {@link findOnHost}, but waits for a netdev that is on its way. */
export async function awaitOnHost(
  host: Host,
  pci: string,
  timeoutMs = netdevTimeoutMs,
): Promise<Link | undefined> {
  await host.netns.rtnl.watch(RTNLGRP_LINK, timeoutMs, () => hostIfname(host, pci));
  return findOnHost(host, pci);
}

/**
 * The VF's netdev in a pod's namespace, whatever its name is there.
 * @param ifname looked at first
 */
export async function findInPod(pod: Netns, pci: string, ifname: string): Promise<Link | undefined> {
  // A virtio netdev's parent is the device "virtio3", which sysfs shows on the host only: its driver tells the PCI function.
  const parentOf = ({ parentDevName, ifname: name }: Link) =>
    parentDevName === undefined || parentDevName.startsWith('virtio')
      ? pod.inside(() => system.busInfo(name))
      : parentDevName;
  const isVf = (link: Link) => parentOf(link) === pci;
  const named = await getLinkByName(pod.rtnl, ifname);
  return named && isVf(named) ? named : (await listLinks(pod.rtnl)).find(isVf);
}

/** Refuses what the kernel would refuse only after it has moved the link. @throws Unsupported */
export function checkMtu(link: Link, mtu: number): void {
  const { minMtu = 68, maxMtu = 65_535 } = link;
  if (mtu < minMtu || mtu > maxMtu) {
    throw new Unsupported(
      `Cannot set "mtu": ${mtu} on ${link.ifname}: its driver takes ${minMtu} to ${maxMtu}`,
    );
  }
}

/**
 * Moves the netdev into the pod under its new name, sets the MTU and brings it up, in one message. The message is not atomic: when the
 * kernel refuses the name or the MTU, the link can be in the pod already, under its host name.
 * @param master the pod's bond that it becomes a slave of: that brings it up
 */
export async function moveIntoPod(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link,
  ifname: string,
  { mtu, modes }: { readonly mtu: number | undefined; readonly modes?: Modes | undefined },
  master?: number,
): Promise<Link> {
  const { setFlags, clearFlags } = flagsOf(modes);
  const up =
    master === undefined ? { setFlags: IFF_UP | setFlags, clearFlags } : { clearFlags: IFF_UP | clearFlags };
  await setLink(host.netns.rtnl, `move ${link.ifname} into the pod as ${ifname}`, link.ifindex, {
    netnsFd: pod.fd,
    ifname,
    mtu: mtu === link.mtu ? undefined : mtu,
    master,
    ...up,
  });
  const inPod = await getLinkByName(pod.rtnl, ifname);
  if (!inPod)
    throw new NotUsable(`${vfName(vf)} is not in the pod as "${ifname}", although the kernel moved it`);
  return inPod;
}

/** A pattern for the kernel, which puts the lowest free number into it (dev_alloc_name). */
const anyName = 'dev%d';

/**
 * Takes the netdev down and out of the pod, under its host name, or any other if that is taken. Names that only the pod gave it stay behind:
 * the kernel refuses a move with EEXIST if the host has a link with one of the alternative names, and whoever has CAP_NET_ADMIN in the pod
 * could keep the VF for ever.
 * @returns the name it got
 */
export async function moveToHost(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link,
  original: NetdevState,
): Promise<string> {
  const move = async (ifname: string) => {
    await setLink(pod.rtnl, `move ${link.ifname} back to the host as ${ifname}`, link.ifindex, {
      netnsFd: host.netns.fd,
      ifname,
      clearFlags: IFF_UP,
    });
    return ifname === anyName ? ((await findOnHost(host, vf.pci))?.ifname ?? ifname) : ifname;
  };
  // A link cannot be renamed to its own alternative name either (dev_get_valid_name).
  const isPods = (name: string) => name === original.ifname || !original.altnames.includes(name);
  await changeAltnames(pod.rtnl, 'del', link.ifindex, link.altnames.filter(isPods));
  const isFree = (await getLinkByName(host.netns.rtnl, original.ifname)) === undefined;
  try {
    return await move(isFree ? original.ifname : anyName);
  } catch (error) {
    if (!isErrno(error, Errno.EEXIST)) throw error;
  }
  // Somebody on the host has got one of its names meanwhile. The move may have happened all the same, and only the renaming failed.
  const [inPod, onHost] = [await getLink(pod.rtnl, link.ifindex), await findOnHost(host, vf.pci)];
  if (onHost || !inPod) return onHost?.ifname ?? link.ifname;
  await changeAltnames(pod.rtnl, 'del', inPod.ifindex, inPod.altnames);
  return move(anyName);
}
