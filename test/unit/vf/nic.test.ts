import { describe, expect, test } from 'vitest';
import {
  findDevice,
  findPf,
  howToCreateVfs,
  isNic,
  netdevNames,
  NotUsable,
  readDevice,
  readVf,
  vfName,
} from '../../../src/vf/inventory.ts';
import { listNics } from '../../../src/vf/nic.ts';
import { devices, link, nicTree, pfTree, sysfsTree, type Tree } from '../../support/sysfs-tree.ts';

const e1000e = nicTree({ pci: '0000:02:00.0', ifname: 'eth2' });
const virtio = nicTree({ pci: '0000:03:00.0', ifname: 'eth3', driver: 'virtio-pci', virtio: 'virtio4' });

describe('a NIC', () => {
  test.each([
    ['0000:02:00.0', 'e1000e', 'eth2'],
    ['0000:03:00.0', 'virtio-pci', 'eth3'],
  ])('%s is found with its driver and netdev, also below virtio4', (pci, driver, ifname) => {
    using tree = sysfsTree(e1000e, virtio);
    const nic = findDevice(tree.sys, pci);
    expect(nic).toMatchObject({ pci, index: -1, driver, ifnames: [ifname], pf: { pci, ifname } });
    expect(isNic(nic)).toBe(true);
    expect(vfName(nic)).toBe(`NIC ${ifname} (${pci})`);
    expect(readDevice(tree.sys, pci)).toEqual(nic);
  });

  test('in a pod has no netdev', () => {
    using tree = sysfsTree(devices({ '0000:02:00.0': { class: '0x020000\n' } }));
    expect(findDevice(tree.sys, '0000:02:00.0')).toMatchObject({ ifnames: [] });
    expect(vfName(findDevice(tree.sys, '0000:02:00.0'))).toBe('NIC 0000:02:00.0');
  });

  test('is one also where its driver allows no VFs', () => {
    using tree = sysfsTree(e1000e, devices({ '0000:02:00.0': { sriov_totalvfs: '0\n' } }));
    expect([findDevice, readDevice].map((find) => find(tree.sys, '0000:02:00.0')).map((nic) => nic && isNic(nic))).toEqual([true, true]); // prettier-ignore
  });

  test.each<[string, Tree]>([
    ['an NVMe disk', { class: '0x010802\n' }],
    ['a bridge of PCI', { class: '0x060400\n' }],
  ])('%s is none', (_, device) => {
    using tree = sysfsTree(pfTree({ pci: '0000:01:00.0' }), devices({ '0000:05:00.0': device }));
    expect(() => findDevice(tree.sys, '0000:05:00.0')).toThrow(NotUsable);
    expect(readDevice(tree.sys, '0000:05:00.0')).toBeUndefined();
  });

  test.each<[string, Tree]>([
    ['a VF that its PF does not list', { class: '0x020000\n', physfn: link('bus/pci/devices/0000:01:00.0') }],
    ['a device that does not say what it is', {}],
  ])('%s is not taken, and what is claimed is not gone', (_, device) => {
    using tree = sysfsTree(pfTree({ pci: '0000:01:00.0' }), devices({ '0000:05:00.0': device }));
    expect(() => findDevice(tree.sys, '0000:05:00.0')).toThrow(NotUsable);
    expect(() => readDevice(tree.sys, '0000:05:00.0')).toThrow(NotUsable);
  });

  test('listNics() lists them, but no PF and no VF', () => {
    const cards = pfTree({ pci: '0000:01:00.0' });
    const classes = devices({
      '0000:01:00.0': { class: '0x020000\n' },
      '0000:01:10.0': { class: '0x020000\n' },
    });
    using tree = sysfsTree(
      cards,
      classes,
      e1000e,
      virtio,
      devices({ '0000:04:00.0': { class: '0x010802\n' } }),
    );
    expect(listNics(tree.sys).map(({ pci }) => pci)).toEqual(['0000:02:00.0', '0000:03:00.0']);
  });
});

describe('an SR-IOV card of virtio', () => {
  /** As Linux 6.12 shows it: routing ID of VF n = that of the PF + 1 + n. */
  const pf = nicTree({ pci: '0000:01:00.0', ifname: 'eth1', driver: 'virtio-pci', virtio: 'virtio5' });
  const card = devices({
    '0000:01:00.0': {
      sriov_numvfs: '1\n',
      sriov_totalvfs: '3\n',
      sriov_offset: '1\n',
      sriov_stride: '1\n',
      virtfn0: link('bus/pci/devices/0000:01:00.1'),
    },
    '0000:01:00.1': {
      class: '0x020000\n',
      physfn: link('bus/pci/devices/0000:01:00.0'),
      driver: link('bus/pci/drivers/virtio-pci'),
      virtio6: { net: { eth4: {} } },
    },
  });

  test('is found by the name of its netdev, which is below virtio5', () => {
    using tree = sysfsTree(pf, card);
    const found = findPf(tree.sys, 'eth1');
    expect(found).toMatchObject({ pci: '0000:01:00.0', ifname: 'eth1', numVfs: 1, totalVfs: 3 });
    expect(howToCreateVfs(found)).toContain('echo N > /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs');
  });

  test('has VFs whose netdev is below virtio6', () => {
    using tree = sysfsTree(pf, card);
    expect(readVf(tree.sys, '0000:01:00.1')).toMatchObject({ index: 0, ifnames: ['eth4'] });
    expect(netdevNames(tree.sys, '0000:01:00.1')).toEqual(['eth4']);
    expect(listNics(tree.sys)).toEqual([]);
  });
});
