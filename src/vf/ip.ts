import { Address4, Address6 } from 'ip-address';

/** An IP address with the length of its network's prefix, or a network. */
export interface Cidr {
  /** 4 bytes for IPv4, 16 for IPv6. */
  readonly bytes: Uint8Array;
  readonly prefixLength: number;
}

function parse(text: string): Address4 | Address6 | undefined {
  if (Address4.isValid(text)) return new Address4(text);
  if (Address6.isValid(text)) return new Address6(text);
  return undefined;
}

function bytesOf(address: Address4 | Address6): Uint8Array {
  if (address instanceof Address4) return Uint8Array.from(address.toArray());
  return Uint8Array.from(
    address
      .canonicalForm()
      .split(':')
      .flatMap((group) => [parseInt(group.slice(0, 2), 16), parseInt(group.slice(2), 16)]),
  );
}

/** "10.1.2.3" or "fd00::1"; undefined if it is neither, or has a prefix length. */
export function parseIp(text: string): Uint8Array | undefined {
  const address = text.includes('/') ? undefined : parse(text);
  return address && bytesOf(address);
}

/** "10.1.2.3/24"; undefined if it is no address with a prefix length. */
export function parseCidr(text: string): Cidr | undefined {
  const address = text.includes('/') ? parse(text) : undefined;
  return address && { bytes: bytesOf(address), prefixLength: address.subnetMask };
}

/** The network of "10.1.2.3/24": 10.1.2.0/24. The kernel refuses routes with host bits. */
export function parseNetwork(text: string): Cidr | undefined {
  const address = text.includes('/') ? parse(text) : undefined;
  return address && { bytes: bytesOf(address.startAddress()), prefixLength: address.subnetMask };
}

/** The usual text of an address: "10.1.2.3", "fd00::1". */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  );
  return new Address6(groups.join(':')).correctForm();
}

export function isIpv6(bytes: Uint8Array): boolean {
  return bytes.length === 16;
}

/** Whether an address is of a network. */
export function isWithin({ bytes: network, prefixLength }: Cidr, bytes: Uint8Array): boolean {
  if (network.length !== bytes.length) return false;
  return bytes.every((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefixLength - 8 * i));
    return ((byte ^ (network[i] ?? 0)) & (0xff00 >> bits) & 0xff) === 0;
  });
}
