import {
  attrs,
  be16,
  cstring,
  type Decoded,
  fixedBytes,
  i32,
  listOf,
  message,
  NLA_F_NESTED,
  raw,
  struct,
  u16,
  u32,
  u8,
} from './codec.ts';
import { Errno, isErrno } from './errno.ts';
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

// uapi/linux/if.h
export const IFF_UP = 0x1;
export const IFF_RUNNING = 0x40;
export const IFF_PROMISC = 0x100;
export const IFF_ALLMULTI = 0x200;
/** uapi/linux/if.h: names are shorter than this. */
export const IFNAMSIZ = 16;

export const ETH_P_8021Q = 0x8100;
export const ETH_P_8021AD = 0x88a8;

const AF_UNSPEC = 0;

/** struct ifinfomsg (uapi/linux/rtnetlink.h) */
export const ifinfomsg = struct({ family: u8, pad: u8, type: u16, index: i32, flags: u32, change: u32 });

/** struct ifla_vf_spoofchk, ifla_vf_trust, ifla_vf_link_state (uapi/linux/if_link.h). All-ones: the driver does not report it. */
const toggle = struct({ vf: u32, setting: u32 });

/** IFLA_VF_INFO: what a PF has programmed for one VF (uapi/linux/if_link.h, enum IFLA_VF_*). */
export const vfInfo = attrs({
  mac: [1, struct({ vf: u32, mac: fixedBytes(32) })], // MAX_ADDR_LEN, not 6
  vlan: [2, struct({ vf: u32, vlan: u32, qos: u32 })],
  spoofchk: [4, toggle],
  linkState: [5, toggle],
  rate: [6, struct({ vf: u32, minTxRate: u32, maxTxRate: u32 })],
  stats: [8, raw], // for who asks for them: vfStats of link-stats.ts
  trust: [9, toggle],
  vlanList: [12, listOf(1, struct({ vf: u32, vlan: u32, qos: u32, proto: be16 }))], // struct ifla_vf_vlan_info: 16 bytes with its padding
});
export type VfInfo = Decoded<typeof vfInfo>;

const ALT_IFNAME = 53;

const linkAttributes = attrs({
  mac: [1, raw],
  ifname: [3, cstring],
  mtu: [4, u32],
  master: [10, u32],
  alias: [20, raw], // no terminating zero
  numVf: [21, u32],
  vfInfoList: [22, listOf(1, vfInfo)],
  netnsFd: [28, u32],
  extMask: [29, u32],
  physSwitchId: [36, raw],
  xdp: [43 | NLA_F_NESTED, attrs({ fd: [1, i32], attached: [2, u8], flags: [3, u32] })],
  minMtu: [50, u32],
  maxMtu: [51, u32],
  altnames: [52 | NLA_F_NESTED, listOf(ALT_IFNAME, cstring)], // IFLA_PROP_LIST
  altIfname: [ALT_IFNAME, cstring],
  permMac: [54, raw], // linux 5.6
  parentDevName: [56, cstring], // linux 5.14
});

export const linkMessage = message(ifinfomsg, linkAttributes);

/** A network interface as the kernel reports it. */
export interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  /** IFF_* */
  readonly flags: number;
  /** "02:00:00:00:01:00"; "" for links without an address. */
  readonly mac: string;
  /** The one that the device was born with; undefined where that was made up, and before Linux 5.6. */
  readonly permMac: string | undefined;
  readonly mtu: number;
  /** Undefined where the driver states no limit. */
  readonly minMtu: number | undefined;
  readonly maxMtu: number | undefined;
  readonly master: number | undefined;
  readonly altnames: readonly string[];
  /** The device behind the link: a PCI address, "virtio3"; undefined for virtual links and before Linux 5.14. */
  readonly parentDevName: string | undefined;
  /** Whether it is a port of a switch; newer drivers say so of a PF in legacy mode, too. */
  readonly isSwitchPort: boolean;
  /** What was written with `ip link set ... alias`. */
  readonly alias: string;
  /** In which modes programs are attached to the link's receive path: XDP_FLAGS_*_MODE. */
  readonly xdpModes: readonly number[];
  /**
   * What the PF reports of its VFs, where asked for; undefined where its driver reports none at all. Never by position: the kernel leaves a
   * VF out whose driver does not answer just now (rtnl_fill_vfinfo: "if (...ndo_get_vf_config(...)) return 0").
   */
  readonly vfs: readonly VfInfo[] | undefined;
}

const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** "02:00:00:00:01:00" */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => hexOf[byte]).join(':');
}

/** The bytes of a MAC in colon form. */
export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
}

// uapi/linux/if_link.h: XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE
const SKB_MODE = 2;
const DRV_MODE = 4;
const HW_MODE = 8;
/** By XDP_ATTACHED_NONE, _DRV, _SKB, _HW, _MULTI: a program goes only where its mode is named. */
const xdpModes = [[], [DRV_MODE], [SKB_MODE], [HW_MODE], [SKB_MODE, DRV_MODE, HW_MODE]];

/** Text of bytes without a terminating zero; each byte is kept, whatever it is. */
function latin1(bytes: Uint8Array | undefined): string {
  return String.fromCharCode(...(bytes ?? []));
}

function latin1Bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function toLink(payload: Uint8Array): Link {
  const { header, attributes } = linkMessage.read(payload);
  return {
    ifindex: header.index,
    ifname: attributes.ifname ?? '',
    flags: header.flags,
    mac: attributes.mac ? formatMac(attributes.mac) : '',
    permMac: attributes.permMac && formatMac(attributes.permMac),
    mtu: attributes.mtu ?? 0,
    minMtu: attributes.minMtu || undefined,
    maxMtu: attributes.maxMtu || undefined,
    master: attributes.master,
    altnames: attributes.altnames ?? [],
    parentDevName: attributes.parentDevName,
    isSwitchPort: (attributes.physSwitchId?.length ?? 0) > 0,
    alias: latin1(attributes.alias),
    xdpModes: xdpModes[attributes.xdp?.attached ?? 0] ?? [],
    vfs: attributes.vfInfoList,
  };
}

/** An ifinfomsg that names a link and changes its flags. */
export const linkHeader = (index: number, flags = 0, change = 0) => ({
  family: AF_UNSPEC,
  pad: 0,
  type: 0,
  index,
  flags,
  change,
});

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
    linkMessage.write({ header: linkHeader(pfIfindex), attributes: { vfInfoList: [vf] } }),
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

/** What the CNI specification allows as an interface name, and the kernel (dev_valid_name; IFNAMSIZ counts bytes). */
export function isLegalIfname(name: string): boolean {
  const { length } = new TextEncoder().encode(name);
  return length > 0 && length <= 15 && name !== '.' && name !== '..' && !/[/:\s]/.test(name);
}

/**
 * What the kernel gives an interface as its very name, and every tool reads in the same way. "%" makes a pattern of it
 * (dev_alloc_name); "all" and "default" are folders of /proc/sys/net/ipv4/conf; beyond ASCII it is other bytes to others.
 */
export function isIfname(name: string): boolean {
  return isLegalIfname(name) && /^[\x21-\x7e]+$/.test(name) && !/%|^all$|^default$/.test(name);
}
