import { Errno, isErrno } from './errno.ts';
import { IFNAMSIZ } from './ifname.ts';
import {
  type Link,
  linkHeader,
  linkMessage,
  macBytes,
  toLink,
  type VfInfo,
  vfInfo,
  vfNumber,
} from './link-message.ts';
import { decoded, type Rtnetlink } from './netlink.ts';

// uapi/linux/rtnetlink.h
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const RTM_NEWLINKPROP = 108;
const RTM_DELLINKPROP = 109;
/** enum rtnetlink_groups: links that appear, change or go */
export const RTNLGRP_LINK = 1;
/** IFLA_EXT_MASK: VF information, and that without statistics (they cost the driver time and can overflow the attribute). */
const RTEXT_FILTER_VF = 1;
const RTEXT_FILTER_SKIP_STATS = 8;

async function get(
  rtnl: Rtnetlink,
  operation: string,
  index: number,
  attributes: Parameters<typeof linkMessage.write>[0]['attributes'],
  unreadable?: string,
) {
  try {
    const payload = await rtnl.ask(
      operation,
      RTM_GETLINK,
      linkMessage.write({ header: linkHeader(index), attributes }),
    );
    return payload && decoded(operation, () => toLink(payload), unreadable);
  } catch (error) {
    if (isErrno(error, Errno.ENODEV)) return undefined;
    throw error;
  }
}

/** The link of that name or alternative name; undefined if there is none. Same as `ip -d link show ifname`. */
export function getLinkByName(rtnl: Rtnetlink, ifname: string): Promise<Link | undefined> {
  return get(rtnl, `read link ${ifname}`, 0, {
    extMask: RTEXT_FILTER_SKIP_STATS,
    ...(ifname.length < IFNAMSIZ ? { ifname } : { altIfname: ifname }),
  });
}

/**
 * Before Linux 6.5 the settings come with statistics, 296 bytes a VF instead of 196: from 222 VFs on they are longer than an attribute can
 * be, and its length is that modulo 65536.
 */
const tooManyVfs = 'too many VFs for one answer: before Linux 6.5 the kernel can tell of 221 at most';

/** A PF with the settings of all its VFs; undefined if there is no such link. */
export function getLinkWithVfs(rtnl: Rtnetlink, ifname: string): Promise<Link | undefined> {
  const extMask = RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS;
  return get(rtnl, `read VF settings of ${ifname}`, 0, { extMask, ifname }, tooManyVfs);
}

/** Like {@link getLinkWithVfs}, with what the PF has counted for each VF. Linux can tell of 221 VFs so. */
export function getLinkWithVfStats(rtnl: Rtnetlink, ifname: string): Promise<Link | undefined> {
  const attributes = { extMask: RTEXT_FILTER_VF, ifname };
  return get(rtnl, `read VF statistics of ${ifname}`, 0, attributes, 'too many VFs for one answer');
}

const readingVfs = ({ ifname }: Link) => `read what ${ifname} tells of its VFs`;

/**
 * What a PF tells of one of its VFs; undefined if nothing now. Found by the VF's number, never by its place: the kernel leaves a VF out whose
 * driver does not answer just now (rtnl_fill_vfinfo: "if (...ndo_get_vf_config(...)) return 0"). Of the other VFs nothing else is read.
 * @throws KernelError
 */
export function vfInfoOf(pf: Link, index: number): VfInfo | undefined {
  return decoded(readingVfs(pf), () => {
    const found = pf.vfs?.find((bytes) => vfNumber.read(bytes).mac?.vf === index);
    return found && vfInfo.read(found);
  });
}

/** What a PF tells of its VFs. @throws KernelError */
export function vfInfosOf(pf: Link): VfInfo[] {
  return decoded(readingVfs(pf), () => pf.vfs?.map((bytes) => vfInfo.read(bytes)) ?? []);
}

/** The link with that index; undefined if there is none (any more). */
export function getLink(rtnl: Rtnetlink, ifindex: number): Promise<Link | undefined> {
  return get(rtnl, `read link ${ifindex}`, ifindex, { extMask: RTEXT_FILTER_SKIP_STATS });
}

/** All links of the namespace. */
export async function listLinks(rtnl: Rtnetlink): Promise<Link[]> {
  const request = linkMessage.write({
    header: linkHeader(0),
    attributes: { extMask: RTEXT_FILTER_SKIP_STATS },
  });
  const payloads = await rtnl.dump('list links', RTM_GETLINK, request);
  return decoded('list links', () => payloads.map(toLink));
}

function latin1Bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

/**
 * What one RTM_SETLINK can change of a link. The kernel applies namespace, MAC, MTU, name, flags in this order and is not atomic; the master
 * comes just before the flags, in older kernels just after them.
 */
export interface LinkChange {
  readonly netnsFd?: number | undefined;
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  readonly ifname?: string | undefined;
  readonly alias?: string | undefined;
  /** The bond that it becomes a slave of, while it is down: the bond brings it up. */
  readonly master?: number | undefined;
  /** Detaches the program that is attached to the receive path in this mode. */
  readonly dropXdp?: number | undefined;
  /** IFF_* bits to set and to clear. */
  readonly setFlags?: number;
  readonly clearFlags?: number;
}

/** Changes a link in one message. @throws KernelError */
export async function setLink(
  rtnl: Rtnetlink,
  operation: string,
  ifindex: number,
  change: LinkChange,
): Promise<void> {
  const { netnsFd, mac, mtu, ifname, alias, master, dropXdp, setFlags = 0, clearFlags = 0 } = change;
  const attributes = {
    netnsFd,
    mac: mac === undefined ? undefined : macBytes(mac),
    mtu,
    ifname,
    alias: alias === undefined ? undefined : latin1Bytes(alias),
    master,
    xdp: dropXdp === undefined ? undefined : { fd: -1, flags: dropXdp },
  };
  await rtnl.request(
    operation,
    RTM_SETLINK,
    linkMessage.write({ header: linkHeader(ifindex, setFlags, setFlags | clearFlags), attributes }),
  );
}

/** Programs VFs through their PF in one message. The kernel applies an entry's attributes in its own order and stops at the first refusal. */
export async function setVf(
  rtnl: Rtnetlink,
  operation: string,
  pfIfindex: number,
  vf: VfInfo,
): Promise<void> {
  await rtnl.request(
    operation,
    RTM_SETLINK,
    linkMessage.write({ header: linkHeader(pfIfindex), attributes: { vfInfoList: [vfInfo.write(vf)] } }),
  );
}

/** Same as `ip link property add|del dev IFNAME altname NAME...`. */
export async function changeAltnames(
  rtnl: Rtnetlink,
  change: 'add' | 'del',
  ifindex: number,
  altnames: readonly string[],
): Promise<void> {
  if (altnames.length === 0) return;
  const type = change === 'add' ? RTM_NEWLINKPROP : RTM_DELLINKPROP;
  await rtnl.request(
    `${change} altnames ${altnames.join(' ')}`,
    type,
    linkMessage.write({ header: linkHeader(ifindex), attributes: { altnames } }),
  );
}
