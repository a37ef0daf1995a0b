import { attrs, message, struct, u16, u32, u64, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { decodedAll, type Rtnetlink } from './netlink.ts';

// uapi/linux/if_link.h, rtnetlink.h
const RTM_GETSTATS = 94;
const IFLA_STATS_LINK_64 = 1;

/** struct if_stats_msg */
const ifStats = struct({ family: u8, pad1: u8, pad2: u16, ifindex: u32, filterMask: u32 });

/** What passed through an interface since its driver made it: struct rtnl_link_stats64 as far as we need it. */
const linkStats64 = struct({
  rxPackets: u64,
  txPackets: u64,
  rxBytes: u64,
  txBytes: u64,
  rxErrors: u64,
  txErrors: u64,
  rxDropped: u64,
  txDropped: u64,
  multicast: u64,
});

const linkStats = message(ifStats, attrs({ link64: [IFLA_STATS_LINK_64, linkStats64] }));

/**
 * What a PF has counted for a VF, as the VF sees it: IFLA_VF_STATS, enum IFLA_VF_STATS_* (uapi/linux/if_link.h). The kernel sends it for
 * every driver, and all zeros where the driver counts nothing (rtnl_fill_vfinfo, net/core/rtnetlink.c).
 */
export const vfStats = attrs({
  rxPackets: [0, u64],
  txPackets: [1, u64],
  rxBytes: [2, u64],
  txBytes: [3, u64],
  broadcast: [4, u64],
  multicast: [5, u64],
  rxDropped: [7, u64],
  txDropped: [8, u64],
});

/** Counters by name; packets, but for bytes. */
export interface Counters {
  readonly rxPackets?: number | undefined;
  readonly txPackets?: number | undefined;
  readonly rxBytes?: number | undefined;
  readonly txBytes?: number | undefined;
  readonly rxErrors?: number | undefined;
  readonly txErrors?: number | undefined;
  readonly rxDropped?: number | undefined;
  readonly txDropped?: number | undefined;
  readonly broadcast?: number | undefined;
  readonly multicast?: number | undefined;
}

/** The counters of a link, same as `ip -s link`; undefined if there is no such link (any more). */
export async function getCounters(rtnl: Rtnetlink, ifindex: number): Promise<Counters | undefined> {
  const operation = `read the counters of link ${ifindex}`;
  const header = { family: 0, pad1: 0, pad2: 0, ifindex, filterMask: 1 << (IFLA_STATS_LINK_64 - 1) };
  try {
    const answer = await rtnl.request(operation, RTM_GETSTATS, linkStats.write({ header, attributes: {} }));
    return decodedAll(operation, linkStats, answer)[0]?.attributes.link64;
  } catch (error) {
    if (isErrno(error, Errno.ENODEV)) return undefined;
    throw error;
  }
}
