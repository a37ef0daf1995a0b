import { expect, test } from 'vitest';
import { gratuitousArp, unsolicitedAdvertisement } from '../../../src/vf/announce.ts';
import { hex } from '../../support/golden.ts';

const mac = Uint8Array.of(0x02, 0xaa, 0, 0, 0, 1);

// RFC 5227: an ARP request whose sender and target are the address itself. The lab judges both packets by tcpdump's decoder.
test('gratuitousArp() is a request for its own address, to everybody', () => {
  const frame = gratuitousArp(mac, Uint8Array.of(10, 0, 0, 1));
  expect(frame.protocol).toBe(0x0806);
  expect(hex(frame.to)).toBe('ffffffffffff');
  expect(hex(frame.bytes)).toBe(
    '0001080006040001' + '02aa00000001' + '0a000001' + 'ffffffffffff' + '0a000001',
  );
});

test('unsolicitedAdvertisement() has the override flag and a checksum that verifies', () => {
  const ip = Uint8Array.from([0xfd, ...new Array<number>(14).fill(0), 5]);
  const { bytes, to } = unsolicitedAdvertisement(mac, ip);
  expect(hex(to)).toBe('333300000001');
  expect(hex(bytes.subarray(0, 8))).toBe('6000000000203aff'); // IPv6, 32 bytes, ICMPv6, hop limit 255
  expect(bytes.subarray(8, 24)).toEqual(ip);
  expect(hex(bytes.subarray(24, 40))).toBe('ff020000000000000000000000000001');
  expect([bytes[40], bytes[41], bytes[44]]).toEqual([136, 0, 0x20]);
  expect(hex(bytes.subarray(64))).toBe('0201' + '02aa00000001');
  // One's complement sum over pseudo header and message, checksum included, is all ones (RFC 1071).
  const words = [...bytes.subarray(8, 40), 0, 0, 0, 32, 0, 0, 0, 58, ...bytes.subarray(40)];
  let sum = 0;
  for (let i = 0; i < words.length; i += 2) sum += ((words[i] ?? 0) << 8) | (words[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  expect(sum).toBe(0xffff);
});
