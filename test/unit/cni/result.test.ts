import { describe, expect, test } from 'vitest';
import { formatResult, parseResult, type Result, toIpConfig } from '../../../src/cni/result.ts';
import type { CniVersion } from '../../../src/cni/versions.ts';

const result: Result = {
  interfaces: [
    { name: 'net1', mac: '02:00:00:00:00:01', mtu: 1400, sandbox: '/run/netns/c', pciID: '0000:03:02.0' },
  ],
  ips: [
    { address: '10.1.0.5/24', gateway: '10.1.0.1', interface: 0 },
    { address: 'fd00::5/64', gateway: 'fd00::1', interface: 0 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1', mtu: 1300 }, { dst: '::/0' }],
  dns: { nameservers: ['10.1.0.2'] },
};

describe("formatResult() speaks each version's own form", () => {
  test.each<[CniVersion, object]>([
    [
      '0.2.0',
      {
        cniVersion: '0.2.0',
        dns: { nameservers: ['10.1.0.2'] },
        ip4: { ip: '10.1.0.5/24', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
        ip6: { ip: 'fd00::5/64', gateway: 'fd00::1', routes: [{ dst: '::/0' }] },
      },
    ],
    [
      '0.4.0',
      {
        cniVersion: '0.4.0',
        dns: { nameservers: ['10.1.0.2'] },
        interfaces: [{ name: 'net1', mac: '02:00:00:00:00:01', sandbox: '/run/netns/c' }],
        ips: [
          { version: '4', address: '10.1.0.5/24', gateway: '10.1.0.1', interface: 0 },
          { version: '6', address: 'fd00::5/64', gateway: 'fd00::1', interface: 0 },
        ],
        routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: '::/0' }],
      },
    ],
    [
      '1.0.0',
      { cniVersion: '1.0.0', ...result, routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: '::/0' }] },
    ],
    ['1.1.0', { cniVersion: '1.1.0', ...result }],
  ])('%s', (version, expected) => expect(JSON.parse(formatResult(result, version))).toEqual(expected));

  test.each<CniVersion>(['0.1.0', '0.2.0'])(
    '%s cannot express a result without addresses: code 2',
    (version) => {
      expect(() => formatResult({ ...result, ips: [] }, version)).toThrow(
        expect.objectContaining({
          code: 2,
          message: expect.stringContaining(`"cniVersion": "${version}"`) as string,
        }),
      );
    },
  );

  test.each<CniVersion>(['0.3.0', '1.0.0'])('%s expresses a result without addresses', (version) => {
    expect(JSON.parse(formatResult({ ...result, ips: [], routes: [], dns: {} }, version))).toMatchObject({
      ips: [],
      routes: [],
    });
  });
});

describe('parseResult()', () => {
  test.each<CniVersion>(['0.2.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])('reads what %s writes', (version) => {
    const text = formatResult({ ...result, routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] }, version);
    const { ips, routes, dns } = parseResult(JSON.parse(text), version, 'test');
    expect(ips.map(({ address, gateway }) => ({ address, gateway }))).toEqual([
      { address: '10.1.0.5/24', gateway: '10.1.0.1' },
      { address: 'fd00::5/64', gateway: 'fd00::1' },
    ]);
    expect(routes).toEqual([{ dst: '0.0.0.0/0', gw: '10.1.0.1' }]);
    expect(dns).toEqual({ nameservers: ['10.1.0.2'] });
  });

  test('takes null lists as empty', () => {
    expect(parseResult({ interfaces: null, ips: null, routes: null, dns: null }, '1.0.0', 'x')).toEqual({
      interfaces: [],
      ips: [],
      routes: [],
      dns: {},
    });
  });

  test.each([null, [], { ips: {} }, { ips: [{ address: 5 }] }, { routes: [{}] }])(
    'refuses %j with code 6, naming who made it',
    (value) => {
      expect(() => parseResult(value, '1.0.0', 'IPAM plugin "x"')).toThrow(
        expect.objectContaining({ code: 6, message: expect.stringContaining('IPAM plugin "x"') as string }),
      );
    },
  );
});

describe('toIpConfig()', () => {
  test('gives addresses and routes as the kernel takes them', () => {
    const config = toIpConfig(
      { ips: result.ips, routes: [{ dst: '10.2.3.4/16', gw: '10.1.0.9', priority: 5 }] },
      'x',
    );
    expect(config.addresses[0]).toEqual({
      bytes: Uint8Array.of(10, 1, 0, 5),
      prefixLength: 24,
      gateway: Uint8Array.of(10, 1, 0, 1),
    });
    expect(config.addresses[1]?.bytes).toEqual(Uint8Array.from([0xfd, ...new Array<number>(14).fill(0), 5]));
    // host bits cleared: the kernel refuses a route with them
    expect(config.routes[0]).toMatchObject({
      dst: Uint8Array.of(10, 2, 0, 0),
      prefixLength: 16,
      gateway: Uint8Array.of(10, 1, 0, 9),
      priority: 5,
    });
  });

  test.each<[Pick<Result, 'ips' | 'routes'>, string]>([
    [{ ips: [{ address: '10.1.0.5' }], routes: [] }, 'address "10.1.0.5"'],
    [{ ips: [{ address: '10.1.0.5/33' }], routes: [] }, 'address "10.1.0.5/33"'],
    [{ ips: [{ address: '10.1.0.5/24', gateway: 'gw' }], routes: [] }, 'gateway "gw"'],
    [{ ips: [], routes: [{ dst: 'default' }] }, 'route "default"'],
    [
      { ips: [], routes: [{ dst: '10.0.0.0/8', gw: 'fd00::1' }] },
      'route 10.0.0.0/8 through gateway "fd00::1"',
    ],
  ])('refuses %j', (given, text) => {
    expect(() => toIpConfig(given, 'x')).toThrow(
      expect.objectContaining({ code: 6, message: expect.stringContaining(text) as string }),
    );
  });
});
