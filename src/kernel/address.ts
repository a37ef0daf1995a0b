import { attrs, type Decoded, message, raw, struct, u32, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { decoded, NLM_F_CREATE, NLM_F_EXCL, type Rtnetlink } from './netlink.ts';

// uapi/linux/rtnetlink.h
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
/** enum rtnetlink_groups: changes of IPv6 addresses, among them the end of duplicate address detection. */
export const RTNLGRP_IPV6_IFADDR = 9;

// uapi/linux/if_addr.h
export const IFA_F_DADFAILED = 0x08;
export const IFA_F_TENTATIVE = 0x40;

export const AF_INET = 2;
export const AF_INET6 = 10;
/** RT_SCOPE_LINK (uapi/linux/rtnetlink.h): valid on this link only. */
export const RT_SCOPE_LINK = 253;

/** struct ifaddrmsg (uapi/linux/if_addr.h) */
const ifaddrmsg = struct({ family: u8, prefixLength: u8, flags: u8, scope: u8, index: u32 });

const addressAttributes = attrs({
  address: [1, raw],
  local: [2, raw],
  broadcast: [4, raw],
  flags: [8, u32], // wider than the header's
});

export const addressMessage = message(ifaddrmsg, addressAttributes);

/** An IP address of a link, as bytes: 4 for IPv4, 16 for IPv6. */
export interface LinkAddress {
  readonly ifindex: number;
  readonly bytes: Uint8Array;
  readonly prefixLength: number;
  /** IFA_F_* */
  readonly flags: number;
  readonly scope: number;
}

export function toAddress(payload: Uint8Array): LinkAddress {
  const { header, attributes }: Decoded<typeof addressMessage> = addressMessage.read(payload);
  return {
    ifindex: header.index,
    bytes: attributes.local ?? attributes.address ?? new Uint8Array(),
    prefixLength: header.prefixLength,
    flags: attributes.flags ?? header.flags,
    scope: header.scope,
  };
}

/** All addresses of the namespace. */
export async function listAddresses(rtnl: Rtnetlink): Promise<LinkAddress[]> {
  const request = addressMessage.write({
    header: { family: 0, prefixLength: 0, flags: 0, scope: 0, index: 0 },
    attributes: {},
  });
  const payloads = await rtnl.dump('list addresses', RTM_GETADDR, request);
  return decoded('list addresses', () => payloads.map(toAddress));
}

/** All ones in the host part; undefined where a network has no broadcast address (IPv6, /31, /32). */
function broadcastOf(bytes: Uint8Array, prefixLength: number): Uint8Array | undefined {
  if (bytes.length !== 4 || prefixLength >= 31) return undefined;
  return bytes.map((byte, i) => byte | (0xff >> Math.min(8, Math.max(0, prefixLength - 8 * i))));
}

/** Same as `ip address add BYTES/PREFIXLENGTH [broadcast +] dev IFINDEX`; an address that is there already is fine. */
export async function addAddress(
  rtnl: Rtnetlink,
  operation: string,
  ifindex: number,
  bytes: Uint8Array,
  prefixLength: number,
): Promise<void> {
  const family = bytes.length === 4 ? AF_INET : AF_INET6;
  const request = addressMessage.write({
    header: { family, prefixLength, flags: 0, scope: 0, index: ifindex },
    attributes: { local: bytes, address: bytes, broadcast: broadcastOf(bytes, prefixLength) },
  });
  try {
    await rtnl.request(operation, RTM_NEWADDR, request, NLM_F_CREATE | NLM_F_EXCL);
  } catch (error) {
    if (!isErrno(error, Errno.EEXIST)) throw error;
  }
}
