import { endianness } from 'node:os';
import { describe, expect, test } from 'vitest';
import {
  attrs,
  be16,
  CodecError,
  cstring,
  fixedBytes,
  listOf,
  message,
  raw,
  struct,
  u16,
  u32,
  u8,
} from '../../../src/kernel/codec.ts';
import { hex } from '../../support/golden.ts';

test('the codecs assume what netlink speaks on this machine: little-endian', () => {
  expect(endianness()).toBe('LE');
});

describe('struct()', () => {
  const vlanInfo = struct({ vf: u32, vlan: u32, qos: u32, proto: be16 });

  test('pads its end to its widest field, as C does', () => {
    expect(vlanInfo.size).toBe(16); // sizeof(struct ifla_vf_vlan_info)
    expect(hex(vlanInfo.write({ vf: 1, vlan: 2, qos: 3, proto: 0x88a8 }))).toBe(
      '01000000020000000300000088a80000',
    );
  });

  test('aligns fields, as C does', () => {
    const mixed = struct({ a: u8, b: u16, c: u8, d: u32 });
    expect(mixed.size).toBe(12);
    expect(hex(mixed.write({ a: 1, b: 2, c: 3, d: 4 }))).toBe('010002000300000004000000');
  });

  test('reads a longer payload and refuses a shorter one', () => {
    const bytes = vlanInfo.write({ vf: 1, vlan: 2, qos: 3, proto: 0x8100 });
    expect(vlanInfo.read(Uint8Array.from([...bytes, 9, 9]))).toEqual({
      vf: 1,
      vlan: 2,
      qos: 3,
      proto: 0x8100,
    });
    expect(() => vlanInfo.read(bytes.subarray(0, 15))).toThrow(CodecError);
  });

  test('reads through a window into a larger buffer', () => {
    const buffer = new Uint8Array(64);
    buffer.set(vlanInfo.write({ vf: 7, vlan: 100, qos: 0, proto: 0x8100 }), 32);
    expect(vlanInfo.read(buffer.subarray(32, 48)).vf).toBe(7);
  });
});

describe('attrs()', () => {
  const set = attrs({ name: [3, cstring], mtu: [4, u32], blob: [9, raw] });

  test('pads every attribute to four bytes and keeps the order of the object', () => {
    expect(hex(set.write({ mtu: 1400, name: 'ab' }))).toBe('080004007805000007000300616200' + '00');
  });

  test('leaves undefined values out', () => {
    expect(set.write({ mtu: undefined })).toHaveLength(0);
  });

  test('skips what it does not know', () => {
    const bytes = Uint8Array.from(Buffer.from('0600630011220000' + '0800040005000000', 'hex'));
    expect(set.read(bytes)).toEqual({ mtu: 5 });
  });

  test('masks the flags of a type', () => {
    expect(set.read(Uint8Array.from(Buffer.from('0800048005000000', 'hex'))).mtu).toBe(5); // NLA_F_NESTED
  });

  test.each(['0200040005000000', '0900040005000000', '0000'])(
    'refuses a length that does not fit: %s',
    (text) => {
      const bytes = Uint8Array.from(Buffer.from(text, 'hex'));
      if (bytes.length < 4) expect(set.read(bytes)).toEqual({});
      else expect(() => set.read(bytes)).toThrow(CodecError);
    },
  );
});

test('listOf() skips entries of other types', () => {
  const list = listOf(1, u32);
  const bytes = Uint8Array.from([...list.write([5, 6]), ...Buffer.from('0800020007000000', 'hex')]);
  expect(list.read(bytes)).toEqual([5, 6]);
});

test('a set within a set within a list is read in place, wherever it lies', () => {
  const deep = attrs({
    list: [1, listOf(2, attrs({ name: [3, cstring], n: [4, struct({ a: u8, b: u16 })] }))],
  });
  const value = { list: [{ name: 'one', n: { a: 1, b: 2 } }, { name: 'two' }] };
  const buffer = new Uint8Array(128).fill(0xff);
  const bytes = deep.write(value);
  buffer.set(bytes, 12);
  expect(deep.read(buffer.subarray(12, 12 + bytes.length))).toEqual(value);
});

test('cstring ends at the first zero and keeps every byte of a name', () => {
  expect(cstring.read(Uint8Array.from([0x65, 0xff, 0, 0x41]))).toBe('eÿ');
  expect(hex(cstring.write('eÿ'))).toBe('65ff00');
});

test('cstring keeps all 255 bytes there and back', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => (i + 1) % 256); // 1 to 255, then the end
  expect(cstring.write(cstring.read(bytes))).toEqual(bytes);
});

test.each(['ł1', 'a\0b', '\u{1f600}'])(
  'cstring refuses what it would write as something else: %j',
  (name) => {
    expect(() => cstring.write(name)).toThrow(CodecError);
  },
);

test('fixedBytes() pads with zeros and refuses more', () => {
  expect(hex(fixedBytes(4).write(Uint8Array.from([1])))).toBe('01000000');
  expect(() => fixedBytes(1).write(new Uint8Array(2))).toThrow(CodecError);
});

test('message() puts attributes behind the aligned header', () => {
  const codec = message(struct({ family: u8, index: u32 }), attrs({ mtu: [4, u32] }));
  const bytes = codec.write({ header: { family: 2, index: 1 }, attributes: { mtu: 9 } });
  expect(hex(bytes)).toBe('0200000001000000' + '0800040009000000');
  expect(codec.read(bytes)).toEqual({ header: { family: 2, index: 1 }, attributes: { mtu: 9 } });
});
