import { AF_INET, AF_INET6, RT_SCOPE_LINK } from './address.ts';
import { attrs, message, raw, struct, u32, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { decodedAll, NLM_F_CREATE, type Rtnetlink } from './netlink.ts';

// uapi/linux/rtnetlink.h
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const RT_TABLE_UNSPEC = 0;
export const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;

/** struct rtmsg (uapi/linux/rtnetlink.h) */
const rtmsg = struct({
  family: u8,
  dstLength: u8,
  srcLength: u8,
  tos: u8,
  table: u8,
  protocol: u8,
  scope: u8,
  type: u8,
  flags: u32,
});

const routeAttributes = attrs({
  dst: [1, raw],
  oif: [4, u32],
  gateway: [5, raw],
  priority: [6, u32],
  metrics: [8, attrs({ mtu: [2, u32], advmss: [8, u32] })],
  multipath: [9, raw],
  table: [15, u32],
});

export const routeMessage = message(rtmsg, routeAttributes);

/** A unicast route, addresses as bytes. */
export interface Route {
  readonly ifindex: number;
  /** Network address and prefix length; the default route has a prefix length of 0. */
  readonly dst: Uint8Array;
  readonly prefixLength: number;
  readonly gateway?: Uint8Array | undefined;
  readonly priority?: number | undefined;
  /** Default: main. */
  readonly table?: number | undefined;
  /** Default: universe (0), or link (253) for an IPv4 route without a gateway. */
  readonly scope?: number | undefined;
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
}

/** A route as the kernel reports it. */
export interface ListedRoute extends Route {
  /** The links of all its next hops, which can be several. */
  readonly ifindexes: readonly number[];
}

/** struct rtnexthop (uapi/linux/rtnetlink.h): __u16 length with the attributes behind it, __u8 flags, __u8 hops, int ifindex */
function nextHops(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: number[] = [];
  for (let at = 0; at + 8 <= bytes.length;) {
    found.push(view.getInt32(at + 4, true));
    at += Math.max(8, (view.getUint16(at, true) + 3) & ~3);
  }
  return found;
}

/** Same as `ip route prepend` (NLM_F_CREATE alone): before other routes to the same place. One that is there already is fine. */
export async function addRoute(rtnl: Rtnetlink, operation: string, route: Route): Promise<void> {
  const isIpv4 = route.dst.length === 4;
  const { mtu, advmss } = route;
  const request = routeMessage.write({
    header: {
      family: isIpv4 ? AF_INET : AF_INET6,
      dstLength: route.prefixLength,
      srcLength: 0,
      tos: 0,
      table: RT_TABLE_UNSPEC,
      protocol: RTPROT_BOOT,
      scope: route.scope ?? (isIpv4 && !route.gateway ? RT_SCOPE_LINK : 0),
      type: RTN_UNICAST,
      flags: 0,
    },
    attributes: {
      dst: route.prefixLength > 0 ? route.dst : undefined,
      oif: route.ifindex,
      gateway: route.gateway,
      priority: route.priority,
      metrics: mtu === undefined && advmss === undefined ? undefined : { mtu, advmss },
      table: route.table ?? RT_TABLE_MAIN,
    },
  });
  try {
    await rtnl.request(operation, RTM_NEWROUTE, request, NLM_F_CREATE);
  } catch (error) {
    if (!isErrno(error, Errno.EEXIST)) throw error;
  }
}

/** All unicast routes of one family in the namespace, of every table. */
export async function listRoutes(
  rtnl: Rtnetlink,
  family: typeof AF_INET | typeof AF_INET6,
): Promise<ListedRoute[]> {
  const header = {
    family,
    dstLength: 0,
    srcLength: 0,
    tos: 0,
    table: 0,
    protocol: 0,
    scope: 0,
    type: 0,
    flags: 0,
  };
  const payloads = await rtnl.dump(
    'list routes',
    RTM_GETROUTE,
    routeMessage.write({ header, attributes: {} }),
  );
  return decodedAll('list routes', routeMessage, payloads)
    .filter((route) => route.header.type === RTN_UNICAST)
    .map(
      ({
        header: { dstLength, scope, table },
        attributes: { dst, oif, gateway, priority, metrics, multipath, table: wideTable },
      }) => ({
        ifindex: oif ?? 0,
        ifindexes: multipath ? nextHops(multipath) : [oif ?? 0],
        dst: dst ?? new Uint8Array(family === AF_INET ? 4 : 16),
        prefixLength: dstLength,
        gateway,
        priority,
        table: wideTable ?? table,
        scope,
        mtu: metrics?.mtu,
        advmss: metrics?.advmss,
      }),
    );
}
