import { expect, test } from 'vitest';
import { formatIp, parseCidr, parseIp, parseNetwork } from '../../../src/vf/ip.ts';
import { hex } from '../../support/golden.ts';

test.each([
  ['10.1.2.3', '0a010203'],
  ['fd00::1', 'fd000000000000000000000000000001'],
  ['::', '00000000000000000000000000000000'],
  ['::ffff:10.0.0.1', '00000000000000000000ffff0a000001'],
  ['10.1.2.3/24', undefined],
  ['10.1.2', undefined],
  ['', undefined],
])('parseIp(%j)', (text, bytes) => {
  const ip = parseIp(text);
  expect(ip && hex(ip)).toBe(bytes);
});

test.each([
  ['10.1.2.3/24', '0a010203', 24],
  ['fd00::1/128', 'fd000000000000000000000000000001', 128],
  ['0.0.0.0/0', '00000000', 0],
])('parseCidr(%j)', (text, bytes, prefixLength) => {
  const cidr = parseCidr(text);
  expect(cidr && hex(cidr.bytes)).toBe(bytes);
  expect(cidr?.prefixLength).toBe(prefixLength);
});

test.each(['10.1.2.3', '10.1.2.3/33', 'fd00::1/129', 'x/24', '10.1.2.3/'])(
  'parseCidr(%j) is none',
  (text) => {
    expect(parseCidr(text)).toBeUndefined();
  },
);

test('parseNetwork() clears the host bits', () => {
  expect(parseNetwork('10.1.2.3/20')).toEqual({ bytes: Uint8Array.of(10, 1, 0, 0), prefixLength: 20 });
  expect(hex(parseNetwork('fd00:1:2:3::9/48')?.bytes ?? new Uint8Array())).toBe(
    'fd000001000200000000000000000000',
  );
});

test.each(['10.1.2.3', 'fd00::1', '::', '2001:db8::ff00:42:8329'])(
  'formatIp() writes %s as people do',
  (text) => {
    expect(formatIp(parseIp(text) ?? new Uint8Array())).toBe(text);
  },
);
