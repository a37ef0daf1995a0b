import { Errno, isErrno, KernelError } from '../kernel/errno.ts';
import {
  changeAltnames,
  getLink,
  getLinkByName,
  IFF_ALLMULTI,
  IFF_PROMISC,
  IFF_UP,
  type Link,
  listLinks,
  RTNLGRP_LINK,
  setLink,
} from '../kernel/link.ts';
import { system } from '../kernel/system.ts';
import type { Netns } from '../kernel/netns.ts';
import { bindDriver, unbindDriver } from '../kernel/pci-driver.ts';
import { readClaimOrLog } from './claims.ts';
import type { Host } from './host.ts';
import { functionOf, netdevNames, NotUsable, standsAlone, type Vf, vfName } from './inventory.ts';
import { SettingRefused, Unsupported } from './settings.ts';

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

/** Which frames beside its own a netdev takes in. Undefined: nobody asked, which in a pod is no. */
export interface Modes {
  readonly promisc?: boolean | undefined;
  readonly allmulti?: boolean | undefined;
}

const modeFlags = { promisc: IFF_PROMISC, allmulti: IFF_ALLMULTI } as const;

/** IFF_* to set and to clear, so that a netdev has these modes and no other. */
export function flagsOf(modes: Modes | undefined): { setFlags: number; clearFlags: number } {
  const setFlags = (modes?.promisc ? IFF_PROMISC : 0) | (modes?.allmulti ? IFF_ALLMULTI : 0);
  return { setFlags, clearFlags: (IFF_PROMISC | IFF_ALLMULTI) & ~setFlags };
}

/** In which modes a netdev is not what was asked for. */
export function modesDrift(flags: number, asked: Modes | undefined): string[] {
  return (['promisc', 'allmulti'] as const).flatMap((mode) => {
    const isOn = (flags & modeFlags[mode]) !== 0;
    return asked?.[mode] === undefined || asked[mode] === isOn
      ? []
      : [`"${mode}" is ${isOn}, was ${asked[mode]}`];
  });
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
  // udev may rename it between the two looks
  for (let tries = 0; tries < 10; tries++) {
    const ifname = hostIfname(host, pci);
    if (ifname === undefined) return undefined;
    const link = await getLinkByName(host.netns.rtnl, ifname);
    if (link) return link;
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
 */
export async function moveIntoPod(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link,
  ifname: string,
  { mtu, modes }: { readonly mtu: number | undefined; readonly modes?: Modes | undefined },
): Promise<Link> {
  const { setFlags, clearFlags } = flagsOf(modes);
  await setLink(host.netns.rtnl, `move ${link.ifname} into the pod as ${ifname}`, link.ifindex, {
    netnsFd: pod.fd,
    ifname,
    mtu: mtu === link.mtu ? undefined : mtu,
    setFlags: IFF_UP | setFlags,
    clearFlags,
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
    return (await findOnHost(host, vf.pci))?.ifname ?? ifname;
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

/** How long the name that a netdev had may be in the hands of another VF's, and how often it may be snatched away. */
const nameTimeoutMs = 10_000;
const nameTries = 20;

/**
 * The name for a netdev on the host that had `ifname`. Drivers that are loaded at the same time register their netdevs under the lowest
 * free ethN, so one may be born with the name of another: it gives up that name first, or two would wait for each other.
 */
async function nameFor(host: Host, link: Link, ifname: string): Promise<string> {
  const { rtnl } = host.netns;
  const interim = `dev${link.ifindex}`;
  const choose = async () => {
    const owner = await getLinkByName(rtnl, ifname);
    if (owner === undefined || owner.ifindex === link.ifindex) return ifname;
    return isPassing(host, owner) ? undefined : interim;
  };
  const name = await choose();
  if (name !== undefined) return name;
  await setLink(rtnl, `rename ${link.ifname} to ${interim}`, link.ifindex, { ifname: interim });
  return (await rtnl.watch(RTNLGRP_LINK, nameTimeoutMs, choose)) ?? interim;
}

/** Whether a netdev is that of a VF that is being attached or given back, under a name that is not its own. */
function isPassing(host: Host, { ifname, parentDevName }: Link): boolean {
  const pci = parentDevName && functionOf(host.sys, parentDevName);
  const netdev = pci ? readClaimOrLog(host, pci)?.original.netdev : undefined;
  return netdev !== undefined && netdev.ifname !== ifname;
}

/** What is done around binding a VF's driver anew, where more than the netdev comes and goes with it. */
export type Around = <T>(bind: () => Promise<T>) => Promise<T>;
const nothingElse: Around = (bind) => bind();

/** How often a MAC is read back, and the distance: i40e and iavf apply it through a work queue. */
const macTries = 20;
const macPauseMs = 100;

/**
 * Makes sure that the netdev, down and on the host, carries a MAC that the PF has programmed: sets it, and where the driver refuses or
 * ignores that, reloads the driver of this VF, which then takes the MAC from its PF (igbvf has no other way: "Reload the VF driver to
 * resume operations"). Where no PF is above it, there is nothing to take it from.
 * @returns the netdev, a new one after a reload
 * @throws NotUsable if the netdev still has another MAC; SettingRefused if that is a NIC's last word
 */
export async function carryMac(
  host: Host,
  vf: Vf,
  link: Link,
  mac: string,
  around: Around = nothingElse,
): Promise<Link> {
  if (link.mac === mac) return link;
  const { isSet, refusal } = await setMac(host, vf, link, mac);
  if (isSet) return { ...link, mac };
  if (standsAlone(vf)) {
    if (refusal) throw new SettingRefused(vf, `"mac": "${mac}"`, refusal);
    throw new NotUsable(`${vfName(vf)} does not take MAC ${mac}, and does not say why`);
  }
  const fields = { vf: vf.pci, driver: vf.driver, mac };
  const fresh = await host.log.change('VF driver reloaded for the MAC', fields, () =>
    around(() => reloadDriver(host, vf)),
  );
  if (fresh.mac === mac || (await setMac(host, vf, fresh, mac)).isSet) return { ...fresh, mac };
  throw new NotUsable(
    `${vfName(vf)} does not take MAC ${mac}: its netdev ${fresh.ifname} has ${fresh.mac} even after its driver ${vf.driver} was reloaded`,
  );
}

/** @returns the kernel's last word where it refused the MAC; it can also ignore it */
async function setMac(
  host: Host,
  vf: Vf,
  link: Link,
  mac: string,
): Promise<{ isSet: boolean; refusal?: KernelError }> {
  let busy: KernelError | undefined;
  const { rtnl } = host.netns;
  if (link.flags & IFF_UP)
    await setLink(rtnl, `take ${link.ifname} down`, link.ifindex, { clearFlags: IFF_UP });
  for (let tries = 1; tries <= macTries; tries++) {
    try {
      const fields = { vf: vf.pci, hostIfname: link.ifname, mac };
      await host.log.change('MAC set on the netdev', fields, () =>
        setLink(rtnl, `set MAC ${mac} on ${link.ifname}`, link.ifindex, { mac }),
      );
      if ((await getLink(rtnl, link.ifindex))?.mac === mac) return { isSet: true };
    } catch (error) {
      if (!(error instanceof KernelError)) return { isSet: false };
      if (!isErrno(error, Errno.EAGAIN, Errno.EBUSY)) return { isSet: false, refusal: error };
      busy = error;
    }
    await new Promise((resolve) => setTimeout(resolve, macPauseMs));
  }
  return { isSet: false, ...(busy && { refusal: busy }) };
}

/** Unbinds and binds the VF's kernel driver and waits for the netdev. */
async function reloadDriver(host: Host, vf: Vf): Promise<Link> {
  if (vf.driver === undefined) throw new NotUsable(`${vfName(vf)} has no driver that could be reloaded`);
  unbindDriver(host.sys, vf.pci);
  return startDriver(host, vf, vf.driver);
}

/** Binds a VF without a driver to a kernel driver and waits for the netdev. */
export async function startDriver(host: Host, vf: Vf, driver: string): Promise<Link> {
  bindDriver(host.sys, vf.pci, driver);
  const link = await awaitOnHost(host, vf.pci);
  if (!link) throw new NotUsable(`${vfName(vf)} has no netdev although its driver ${driver} was loaded`);
  return link;
}

/** Brings a netdev on the host back to what it was: MAC first, since that can replace the netdev. */
export async function restoreNetdev(
  host: Host,
  vf: Vf,
  link: Link,
  original: NetdevState,
  around: Around = nothingElse,
): Promise<void> {
  const { rtnl } = host.netns;
  const current = await carryMac(host, vf, link, original.mac, around);
  const now = netdevState(current);
  const isUnwanted = (name: string) => name === original.ifname || !original.altnames.includes(name);
  await changeAltnames(rtnl, 'del', current.ifindex, now.altnames.filter(isUnwanted));
  const flags = (on: boolean) =>
    (original.promisc === on && now.promisc !== on ? IFF_PROMISC : 0) |
    (original.allmulti === on && now.allmulti !== on ? IFF_ALLMULTI : 0);
  const clearFlags = flags(false) | (current.flags & IFF_UP);
  const mtu = now.mtu === original.mtu ? undefined : original.mtu;
  const alias = now.alias === (original.alias ?? '') ? undefined : (original.alias ?? '');
  // A program that the pod has put into the receive path would see the next pod's traffic.
  for (const dropXdp of current.xdpModes)
    await setLink(rtnl, `detach the XDP program of ${current.ifname}`, current.ifindex, { dropXdp });
  for (let tries = 1; ; tries++) {
    const ifname = now.ifname === original.ifname ? undefined : await nameFor(host, current, original.ifname);
    const isSame = ifname === undefined && mtu === undefined && alias === undefined;
    if (isSame && !clearFlags && !flags(true)) break;
    const changes = { ifname, mtu, alias, setFlags: flags(true), clearFlags };
    try {
      await setLink(rtnl, `restore ${current.ifname}`, current.ifindex, changes);
      break;
    } catch (error) {
      // A driver that was loaded between our look and now got the name.
      if (!isErrno(error, Errno.EEXIST) || tries === nameTries) throw error;
    }
  }
  await addAltnames(
    host,
    current,
    original.altnames.filter((name) => !now.altnames.includes(name)),
  );
}

/** Gives a link its alternative names again; one that another link has got meanwhile is not worth keeping the VF back. */
async function addAltnames(host: Host, link: Link, altnames: readonly string[]): Promise<void> {
  for (const altname of altnames) {
    try {
      await changeAltnames(host.netns.rtnl, 'add', link.ifindex, [altname]);
    } catch (error) {
      if (!isErrno(error, Errno.EEXIST)) throw error;
      host.log.warning('its alternative name is taken', { hostIfname: link.ifname, altname });
    }
  }
}
