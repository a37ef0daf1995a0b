import { macBytes } from '../kernel/link-message.ts';
import { type Frame, system } from '../kernel/system.ts';
import type { Netns } from '../kernel/netns.ts';
import { isIpv6 } from './ip.ts';

// uapi/linux/if_ether.h
const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;

/** How long a link may take to get carrier before nobody is told any more. */
const patienceMs = 2_000;

/** A gratuitous ARP request (RFC 5227 3): sender and target are the address itself, so every neighbour updates its entry. */
export function gratuitousArp(mac: Uint8Array, ip: Uint8Array): Frame {
  const header = [0, 1, 0x08, 0x00, 6, 4, 0, 1]; // Ethernet, IPv4, lengths of their addresses, request
  const broadcast = new Uint8Array(6).fill(0xff);
  return {
    protocol: ETH_P_ARP,
    to: broadcast,
    bytes: Uint8Array.from([...header, ...mac, ...ip, ...broadcast, ...ip]),
  };
}

const allNodes = Uint8Array.from([0xff, 0x02, ...new Array<number>(13).fill(0), 1]); // ff02::1
const allNodesMac = Uint8Array.from([0x33, 0x33, 0, 0, 0, 1]); // RFC 2464 7

/** RFC 1071 */
function internetChecksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** An unsolicited Neighbour Advertisement (RFC 4861 4.4 and 7.2.6) to all nodes, with the override flag. */
export function unsolicitedAdvertisement(mac: Uint8Array, ip: Uint8Array): Frame {
  const ICMPV6 = 58;
  const advertisement = (checksum: number) => [
    136,
    0,
    checksum >> 8,
    checksum & 0xff,
    0x20,
    0,
    0,
    0,
    ...ip,
    2,
    1,
    ...mac,
  ];
  const length = advertisement(0).length;
  const checksum = internetChecksum([
    ...ip,
    ...allNodes,
    0,
    0,
    0,
    length,
    0,
    0,
    0,
    ICMPV6,
    ...advertisement(0),
  ]); // RFC 8200 8.1
  const header = [0x60, 0, 0, 0, 0, length, ICMPV6, 255, ...ip, ...allNodes];
  return {
    protocol: ETH_P_IPV6,
    to: allNodesMac,
    bytes: Uint8Array.from([...header, ...advertisement(checksum)]),
  };
}

/**
 * Tells the neighbours where the addresses are now: an address or MAC that was used before sits in their caches. Sent on this very link,
 * past the routing tables; never later than the pod needs it, never a reason to fail.
 * @returns false if the link has no carrier yet: a child process then waits for it, if the pod does not end before
 */
export function announce(
  pod: Netns,
  link: { readonly ifname: string; readonly ifindex: number; readonly mac: string },
  ips: readonly Uint8Array[],
): boolean {
  const mac = macBytes(link.mac);
  if (ips.length === 0 || mac.length !== 6) return true; // InfiniBand has no such frames
  const frames = ips.map((ip) => (isIpv6(ip) ? unsolicitedAdvertisement(mac, ip) : gratuitousArp(mac, ip)));
  const { path, identity } = pod;
  return pod.inside(() =>
    system.announce(link.ifname, link.ifindex, frames, patienceMs, path, identity.inode),
  );
}
