import { Errno, isErrno } from '../kernel/errno.ts';
import { IFF_ALLMULTI, IFF_PROMISC, IFF_UP, type Link } from '../kernel/link-message.ts';
import { changeAltnames, getLinkByName, RTNLGRP_LINK, setLink } from '../kernel/link.ts';
import { type Around, carryMac, nothingElse } from './carried-mac.ts';
import { readClaimOrLog } from './claims.ts';
import type { Host } from './host.ts';
import { functionBehind, type Vf } from './inventory.ts';
import { type NetdevState, netdevState } from './netdev.ts';

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
    if (isPassing(host, owner)) return undefined;
    // Whoever was passing may have gone on between the two looks, and nothing of it is under this name any more.
    const still = await getLinkByName(rtnl, ifname);
    return still?.ifindex === owner.ifindex ? interim : undefined;
  };
  const name = await choose();
  if (name !== undefined) return name;
  await setLink(rtnl, `rename ${link.ifname} to ${interim}`, link.ifindex, { ifname: interim });
  return (await rtnl.watch(RTNLGRP_LINK, nameTimeoutMs, choose)) ?? interim;
}

/** Whether a netdev is that of a VF that is being attached or given back, under a name that is not its own. */
function isPassing(host: Host, { ifname }: Link): boolean {
  const pci = functionBehind(host.sys, ifname);
  const netdev = pci ? readClaimOrLog(host, pci)?.original.netdev : undefined;
  return netdev !== undefined && netdev.ifname !== ifname;
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
