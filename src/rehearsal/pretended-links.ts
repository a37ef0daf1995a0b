/** The kernel's answers to netlink on the pretended node: a PF, the VF, and what requests make of them. */
import { i32 } from '../kernel/codec.ts';
import { Errno } from '../kernel/errno.ts';
import { linkMessage, macBytes, vfInfo } from '../kernel/link-message.ts';

export type Namespace = 'host' | 'pod';

type Attributes = Parameters<typeof linkMessage.write>[0]['attributes'];

interface PretendedLink {
  readonly index: number;
  namespace: Namespace;
  flags: number;
  attributes: Attributes;
}

const zeros = new Uint8Array(32);
const vfSettings = [
  vfInfo.write({
    mac: { vf: 0, mac: zeros },
    vlan: { vf: 0, vlan: 0, qos: 0 },
    spoofchk: { vf: 0, setting: 1 },
    linkState: { vf: 0, setting: 0 },
    rate: { vf: 0, minTxRate: 0, maxTxRate: 0 },
    trust: { vf: 0, setting: 0 },
    vlanList: [{ vf: 0, vlan: 0, qos: 0, proto: 0x8100 }],
  }),
];

const common = { mac: macBytes('02:00:00:00:00:01'), mtu: 1500 };
const links: PretendedLink[] = [
  { index: 1, namespace: 'pod', flags: 0, attributes: { ifname: 'lo', mtu: 65536 } },
  {
    index: 2,
    namespace: 'host',
    flags: 1,
    attributes: { ...common, ifname: 'eth0', vfInfoList: vfSettings, parentDevName: '0000:01:00.0' },
  },
  {
    index: 3,
    namespace: 'host',
    flags: 0,
    attributes: { ...common, ifname: 'eth1', permMac: common.mac, parentDevName: '0000:01:10.0' },
  },
];

// uapi/linux/netlink.h, uapi/linux/rtnetlink.h
const [NLMSG_ERROR, NLMSG_DONE, RTM_NEWLINK, RTM_GETLINK, RTM_SETLINK] = [2, 3, 16, 18, 19];
const NLM_F_MULTI = 2;
const NLM_F_DUMP = 0x300;
const NLM_F_ACK = 4;

function formatMessage(type: number, flags: number, seq: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + payload.length);
  const data = new DataView(bytes.buffer);
  data.setUint32(0, bytes.length, true);
  data.setUint16(4, type, true);
  data.setUint16(6, flags, true);
  data.setUint32(8, seq, true);
  bytes.set(payload, 16);
  return bytes;
}

function formatLink({ index, flags, attributes }: PretendedLink): Uint8Array {
  const header = { family: 0, pad: 0, type: 1, index, flags, change: 0 };
  return linkMessage.write({ header, attributes });
}

/** What a socket in a namespace receives for a request. */
export function answer(
  namespace: Namespace,
  request: Uint8Array,
  namespaceOf: (fd: number) => Namespace,
): Uint8Array[] {
  const data = new DataView(request.buffer, request.byteOffset, request.length);
  const [type, flags, seq] = [data.getUint16(4, true), data.getUint16(6, true), data.getUint32(8, true)];
  const acknowledge = (errno: number) => {
    const payload = new Uint8Array(20);
    payload.set(i32.write(-errno));
    return formatMessage(NLMSG_ERROR, 0, seq, payload);
  };
  const mine = links.filter((link) => link.namespace === namespace);
  if ((flags & NLM_F_DUMP) === NLM_F_DUMP) {
    const all = type === RTM_GETLINK ? mine : [];
    return [
      ...all.map((link) => formatMessage(RTM_NEWLINK, NLM_F_MULTI, seq, formatLink(link))),
      formatMessage(NLMSG_DONE, NLM_F_MULTI, seq, new Uint8Array(4)),
    ];
  }
  if (type < RTM_NEWLINK || type > RTM_SETLINK) return [acknowledge(0)];
  const { header, attributes } = linkMessage.read(request.subarray(16));
  const link = mine.find(({ index, attributes: { ifname } }) =>
    header.index > 0 ? index === header.index : ifname === (attributes.ifname ?? attributes.altIfname),
  );
  if (link === undefined) return [acknowledge(Errno.ENODEV)];
  if (type === RTM_GETLINK)
    return [
      formatMessage(RTM_NEWLINK, 0, seq, formatLink(link)),
      ...(flags & NLM_F_ACK ? [acknowledge(0)] : []),
    ];
  const { netnsFd, mac, mtu, ifname } = attributes;
  link.flags = (link.flags & ~header.change) | (header.flags & header.change);
  const known = link.attributes;
  link.attributes = {
    ...known,
    mac: mac ?? known.mac,
    mtu: mtu ?? known.mtu,
    ifname: ifname ?? known.ifname,
  };
  if (netnsFd !== undefined) link.namespace = namespaceOf(netnsFd);
  return [acknowledge(0)];
}

/** For sysfs, which shows the host's. */
export function isOnHost(index: number): boolean {
  return links.some((link) => link.index === index && link.namespace === 'host');
}
