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

// uapi/linux/if.h
export const IFF_UP = 0x1;
export const IFF_RUNNING = 0x40;
export const IFF_PROMISC = 0x100;
export const IFF_ALLMULTI = 0x200;

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

/** Which VF an IFLA_VF_INFO is of, and nothing else of it. */
export const vfNumber = attrs({ mac: [1, struct({ vf: u32 })] });

const ALT_IFNAME = 53;

const linkAttributes = attrs({
  mac: [1, raw],
  ifname: [3, cstring],
  mtu: [4, u32],
  master: [10, u32],
  alias: [20, raw], // no terminating zero
  numVf: [21, u32],
  vfInfoList: [22, listOf(1, raw)],
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
   * What the PF reports of its VFs, where asked for, each as an IFLA_VF_INFO: vfInfoOf() and vfInfosOf() read them. Undefined where its
   * driver reports none at all.
   */
  readonly vfs: readonly Uint8Array[] | undefined;
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

/** Reads a link from an answer. @throws CodecError */
export function toLink(payload: Uint8Array): Link {
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
