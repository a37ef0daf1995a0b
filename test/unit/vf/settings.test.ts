import { describe, expect, test } from 'vitest';
import { type Link, linkMessage, vfInfo } from '../../../src/kernel/link-message.ts';
import {
  changes,
  readSettings,
  restorable,
  unknownBefore,
  settingsOf,
  type VfSettings,
  writeSettings,
} from '../../../src/vf/settings.ts';
import { golden, hex } from '../../support/golden.ts';

const lo = { family: 0, pad: 0, type: 0, index: 1, flags: 0, change: 0 };

describe('writeSettings() sends byte for byte what iproute2 sends', () => {
  test.each<[string, VfSettings]>([
    ['mac', { mac: '02:aa:bb:cc:dd:01' }],
    ['vlan', { vlan: { id: 100, qos: 0, proto: '802.1q' } }],
    ['vlan-qos', { vlan: { id: 100, qos: 3, proto: '802.1q' } }],
    ['vlan-none', { vlan: { id: 0, qos: 0, proto: '802.1q' } }],
    ['vlan-8021ad', { vlan: { id: 100, qos: 3, proto: '802.1ad' } }],
    ['rate', { rateMbps: { min: 50, max: 200 } }],
    ['spoofchk-on', { spoofchk: true }],
    ['spoofchk-off', { spoofchk: false }],
    ['state-auto', { linkState: 'auto' }],
    ['state-enable', { linkState: 'enable' }],
    ['state-disable', { linkState: 'disable' }],
    ['trust-on', { trust: true }],
    ['trust-off', { trust: false }],
  ])('%s', (name, settings) => {
    const message = linkMessage.write({
      header: lo,
      attributes: { vfInfoList: [vfInfo.write(writeSettings(1, settings))] },
    });
    expect(hex(message)).toBe(hex(golden(name)));
    const back = linkMessage.read(message).attributes.vfInfoList?.[0];
    expect(back && changes(readSettings(vfInfo.read(back)), settings)).toEqual({});
  });
});

test('readSettings() takes all-ones as "the driver does not report it"', () => {
  const unknown = { vf: 0, setting: 0xffffffff };
  const settings = readSettings({ spoofchk: unknown, trust: unknown, linkState: unknown });
  expect(settings).toMatchObject({ spoofchk: undefined, trust: undefined, linkState: undefined });
});

describe('settingsOf() finds a VF by its number, not by its place', () => {
  // The kernel leaves out VF 1, whose driver answers EBUSY: what comes third is VF 3.
  const entry = (vf: number) =>
    vfInfo.write({ mac: { vf, mac: new Uint8Array(32) }, vlan: { vf, vlan: 100 + vf, qos: 0 } });
  const pf = { vfs: [0, 2, 3].map(entry) } as unknown as Link;

  test.each([
    [0, 100],
    [2, 102],
    [3, 103],
  ])('VF %i', (index, id) => expect(settingsOf(pf, index)?.vlan?.id).toBe(id));
  test.each([1, 4])('VF %i is not reported now', (index) => expect(settingsOf(pf, index)).toBeUndefined());
});

describe('changes()', () => {
  const is: VfSettings = {
    mac: '02:00:00:00:00:01',
    vlan: { id: 0, qos: 0, proto: '802.1q' },
    rateMbps: { min: 0, max: 0 },
    spoofchk: true,
    trust: undefined,
  };

  test.each<[string, VfSettings, VfSettings]>([
    ['nothing for what is so already', { spoofchk: true, mac: '02:00:00:00:00:01' }, {}],
    ['false is a value', { spoofchk: false }, { spoofchk: false }],
    ['VLAN 0 equals no VLAN', { vlan: { id: 0, qos: 0, proto: '802.1q' } }, {}],
    [
      'a VLAN with its QoS and protocol',
      { vlan: { id: 5, qos: 1, proto: '802.1ad' } },
      { vlan: { id: 5, qos: 1, proto: '802.1ad' } },
    ],
    ['what the driver does not report is set', { trust: false }, { trust: false }],
    ['undefined is no wish', { mac: undefined }, {}],
  ])('%s', (_, to, expected) => expect(changes(is, to)).toEqual(expected));

  test('lists settings in the order of the kernel', () => {
    const all: VfSettings = {
      trust: true,
      linkState: 'enable',
      spoofchk: false,
      rateMbps: { min: 1, max: 2 },
      vlan: { id: 1, qos: 0, proto: '802.1q' },
      mac: '02:00:00:00:00:02',
    };
    expect(Object.keys(changes(is, all))).toEqual([
      'mac',
      'vlan',
      'rateMbps',
      'spoofchk',
      'linkState',
      'trust',
    ]);
  });
});

describe('restorable()', () => {
  const original: VfSettings = {
    mac: '02:00:00:00:00:01',
    spoofchk: true,
    trust: false,
    linkState: undefined,
  };

  test('brings back what was asked for, and nothing that the driver did not report', () => {
    expect(restorable(original, { trust: true, linkState: 'enable' }, true)).toEqual({ trust: false });
  });

  test('leaves a MAC that nobody asked for to the netdev', () => {
    expect(restorable(original, {}, true)).toEqual({});
    expect(restorable(original, {}, false)).toEqual({ mac: '02:00:00:00:00:01' });
  });
});

test('unknownBefore(): what the driver never reported gets what drivers start with, if somebody asked for it', () => {
  expect(unknownBefore({}, { trust: true, spoofchk: false, vlan: undefined })).toEqual({
    trust: false,
    spoofchk: true,
  });
  expect(unknownBefore({ trust: true }, { trust: true })).toEqual({});
  expect(unknownBefore({}, { rateMbps: { min: 0, max: 1 } })).toEqual({});
});
