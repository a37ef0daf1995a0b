import { describe, expect, test } from 'vitest';
import { wishesOf } from '../../../src/attach/wish.ts';
import { parseConfig } from '../../../src/cni/config.ts';
import { parseRequest } from '../../../src/cni/request.ts';

function parse(config: object) {
  const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1' };
  const whole = { cniVersion: '1.0.0', name: 'net', type: 'sriov', ...config };
  return parseConfig(parseRequest('ADD', env, JSON.stringify(whole)));
}

const pool = (pf: string, ranges?: readonly (readonly [number, number])[]) => ({
  kind: 'pool',
  pool: { pfs: [ranges ? { pf, ranges } : { pf }] },
});

describe('"bond"', () => {
  test.each<[string, object, object]>([
    [
      'two PFs',
      { pfs: ['ens1f0', 'ens2f0'] },
      { devices: [pool('ens1f0'), pool('ens2f0')], miimonMs: 100, primary: undefined },
    ],
    ['one PF: both VFs are of it', { pfs: ['ens1f0'] }, { devices: [pool('ens1f0'), pool('ens1f0')] }],
    [
      'some VFs of a PF',
      { pfs: ['ens1f0#0-3,7', '0000:03:00.0'], primary: 'ens1f0' },
      {
        devices: [
          pool('ens1f0', [
            [0, 3],
            [7, 7],
          ]),
          pool('0000:03:00.0'),
        ],
        primary: 'ens1f0',
      },
    ],
    [
      'two devices, in any usual notation',
      { devices: ['03:02.0', '0000:04:0A.1'], primary: '03:02.0' },
      {
        devices: [
          { kind: 'vf', pci: '0000:03:02.0' },
          { kind: 'vf', pci: '0000:04:0a.1' },
        ],
      },
    ],
    [
      "bond-cni's values",
      { pfs: ['a', 'b'], mode: 'active-backup', miimon: '200', failOverMac: 1 },
      { miimonMs: 200 },
    ],
    [
      "the kernel's numbers and words",
      { pfs: ['a', 'b'], mode: 1, miimon: 50, failOverMac: 'active' },
      { miimonMs: 50 },
    ],
  ])('%s', (_, bond, expected) => {
    const conf = parse({ bond });
    expect(conf.bond).toMatchObject(expected);
    expect(conf.device).toBeUndefined();
  });

  test('makes a wish for each device, with all that is asked of a VF', () => {
    const wishes = wishesOf(
      parse({ bond: { devices: ['03:02.0', '04:02.0'] }, vlan: 5, spoofchk: 'on', mtu: 1400 }),
    );
    expect(wishes).toMatchObject([
      {
        device: { pci: '0000:03:02.0' },
        bond: undefined,
        settings: { vlan: { id: 5 }, spoofchk: true },
        mtu: 1400,
      },
      {
        device: { pci: '0000:04:02.0' },
        bond: undefined,
        settings: { vlan: { id: 5 }, spoofchk: true },
        mtu: 1400,
      },
    ]);
    expect(wishesOf(parse({ deviceID: '03:02.0' }))).toHaveLength(1);
  });

  const both = { pfs: ['a', 'b'] };
  test.each<[string, object, string]>([
    ['no source', { bond: {} }, 'from "pfs" or from "devices"'],
    ['two sources', { bond: { ...both, devices: ['03:02.0', '04:02.0'] } }, 'from "pfs" or from "devices"'],
    ['no PF', { bond: { pfs: [] } }, 'one or two PFs'],
    ['three PFs', { bond: { pfs: ['a', 'b', 'c'] } }, 'one or two PFs'],
    ['what is no PF', { bond: { pfs: ['a', 'b#x'] } }, 'one or two PFs'],
    ['one device', { bond: { devices: ['03:02.0'] } }, 'two different PCI addresses'],
    ['one device twice', { bond: { devices: ['03:02.0', '0000:03:02.0'] } }, 'two different PCI addresses'],
    [
      'three devices',
      { bond: { devices: ['03:02.0', '03:02.1', '03:02.2'] } },
      'two different PCI addresses',
    ],
    ['no addresses', { bond: { devices: ['net1', 'net2'] } }, 'two different PCI addresses'],
    ['LACP', { bond: { ...both, mode: '802.3ad' } }, '"mode" must be "active-backup"'],
    ['another mode by number', { bond: { ...both, mode: 4 } }, '"mode" must be "active-backup"'],
    ['no monitoring', { bond: { ...both, miimon: 0 } }, '"miimon" must be 1 to 10000'],
    ['a time that is none', { bond: { ...both, miimon: '1s' } }, '"miimon" must be 1 to 10000'],
    ['a negative time', { bond: { ...both, miimon: -5 } }, '"miimon" must be 1 to 10000'],
    ['one MAC for both', { bond: { ...both, failOverMac: 0 } }, '"failOverMac" must be 1'],
    [
      'a primary that is none of them',
      { bond: { ...both, primary: 'c' } },
      '"primary" must be one of the two',
    ],
    ['a primary of one PF', { bond: { pfs: ['a'], primary: 'a' } }, '"primary" must be one of the two'],
    ["bond-cni's links", { bond: { links: [{ name: 'net1' }] } }, 'must be an object with "pfs"'],
    ['a list', { bond: ['a', 'b'] }, 'must be an object with "pfs"'],
    ['an injected device', { bond: both, deviceID: '03:02.0' }, '"deviceID" is given as well'],
    [
      'one of runtimeConfig',
      { bond: both, runtimeConfig: { deviceID: '03:02.0' } },
      '"deviceID" is given as well',
    ],
    ['a PF beside it', { bond: both, pf: 'a' }, '"pf" is given as well'],
    ['devices beside it', { bond: both, devices: ['03:02.0'] }, '"devices" is given as well'],
    ['a process', { bond: both, dpdk: true }, '"dpdk"'],
    ['RDMA', { bond: both, rdma: true }, '"rdma"'],
    ['the index of a VF', { bond: both, vf: 1 }, '"vf": 1 is not allowed: it needs "pf"'],
    ['a slip', { bonds: both }, 'did you mean "bond"?'],
  ])('refuses %s', (_, config, message) => {
    expect(() => parse(config)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(message) as string }),
    );
  });
});
