import { describe, expect, test } from 'vitest';
import {
  findDevice,
  findPf,
  listPfs,
  listVfs,
  NotUsable,
  parsePci,
  readVf,
} from '../../../src/vf/inventory.ts';
import { devices, pfTree, sysfsTree, type Tree } from '../../support/sysfs-tree.ts';

test.each([
  ['0000:03:02.0', '0000:03:02.0'],
  ['0000:AF:06.1', '0000:af:06.1'],
  ['03:02.0', '0000:03:02.0'],
  ['10000:e1:00.7', '10000:e1:00.7'], // a VMD domain
  ['0000:03:02.8', undefined],
  ['0000:03:02', undefined],
  ['../../etc', undefined],
  ['', undefined],
])('parsePci(%j)', (text, pci) => expect(parsePci(text)).toBe(pci));

const igb = pfTree({ pci: '0000:01:00.0', ifname: 'ens1', numVfs: 3 });

describe('a plain VF', () => {
  test('is found with its PF, index, driver and netdev', () => {
    using tree = sysfsTree(igb);
    expect(findDevice(tree.sys, '0000:01:10.2')).toEqual({
      pci: '0000:01:10.2',
      index: 1,
      driver: 'igbvf',
      ifnames: ['ens1v1'],
      pf: { pci: '0000:01:00.0', ifname: 'ens1', driver: 'igb', numVfs: 3, totalVfs: 7 },
    });
  });

  test('has its index from the links where a card reports no offset and stride', () => {
    using tree = sysfsTree(igb, devices({ '0000:01:00.0': { sriov_offset: '5\n' } }));
    expect(findDevice(tree.sys, '0000:01:10.4').index).toBe(2);
  });

  test('under vfio-pci has no netdev', () => {
    using tree = sysfsTree(pfTree({ pci: '0000:01:00.0', vfDriver: 'vfio-pci' }));
    expect(findDevice(tree.sys, '0000:01:10.0')).toMatchObject({ driver: 'vfio-pci', ifnames: [] });
  });
});

test('listVfs() and listPfs() list all of them', () => {
  using tree = sysfsTree(igb);
  const [pf] = listPfs(tree.sys);
  expect(pf?.pci).toBe('0000:01:00.0');
  expect(pf && listVfs(tree.sys, pf).map((vf) => vf.pci)).toEqual([
    '0000:01:10.0',
    '0000:01:10.2',
    '0000:01:10.4',
  ]);
});

test('findPf() takes a name or a PCI address', () => {
  using tree = sysfsTree(igb);
  expect(findPf(tree.sys, 'ens1').pci).toBe('0000:01:00.0');
  expect(findPf(tree.sys, '0000:01:00.0').ifname).toBe('ens1');
});

describe('the netdev of a PF with several', () => {
  const withNetdevs = (net: Tree) =>
    devices({ '0000:01:00.0': { sriov_totalvfs: '4\n', sriov_numvfs: '1\n', net } });

  test('is not a representor of its VFs', () => {
    using tree = sysfsTree(
      withNetdevs({
        a_rep: { phys_port_name: 'pf0vf0\n' },
        b_sf: { phys_port_name: 'pf0sf1\n' },
        uplink: { phys_port_name: 'p0\n' },
      }),
    );
    expect(findPf(tree.sys, '0000:01:00.0').ifname).toBe('uplink');
  });

  test('is its first port on a ConnectX-3', () => {
    using tree = sysfsTree(withNetdevs({ a: { dev_port: '1\n' }, b: { dev_port: '0\n' } }));
    expect(findPf(tree.sys, '0000:01:00.0').ifname).toBe('b');
  });
});

describe('errors say what is wrong', () => {
  test.each([
    ['0000:09:00.0', 'no such PCI device'],
    [
      '0000:01:00.0',
      'it is a physical function; PF ens1 has 3 VFs of 7: echo N > /sys/class/net/ens1/device/sriov_numvfs',
    ],
    ['0000:02:00.0', 'it is neither a virtual function nor another network device'],
  ])('%s', (pci, text) => {
    using tree = sysfsTree(igb, devices({ '0000:02:00.0': {} }));
    expect(() => findDevice(tree.sys, pci)).toThrow(NotUsable);
    expect(() => findDevice(tree.sys, pci)).toThrow(text);
  });

  test('readVf() knows a VF that is gone', () => {
    using tree = sysfsTree(igb);
    expect(readVf(tree.sys, '0000:01:10.6')).toBeUndefined();
  });
});
