import { describe, expect, test } from 'vitest';
import { readDeviceInfo } from '../../../src/dpdk/device-info.ts';
import { type DpdkWish, loadDriver, userspaceDriverFor, wrongKind } from '../../../src/dpdk/driver.ts';
import { requireIommu, vfioDeviceFile } from '../../../src/dpdk/iommu.ts';
import { findDevice, type Vf } from '../../../src/vf/inventory.ts';
import { devices, link, pfTree, sysfsTree, type Tree } from '../../support/sysfs-tree.ts';

const pci = '0000:01:10.0';
const igb = pfTree({ pci: '0000:01:00.0', ifname: 'ens1' });

function vfWith(driver: string | undefined): Vf {
  using tree = sysfsTree(igb);
  return { ...findDevice(tree.sys, pci), driver };
}

describe('which driver a VF gets', () => {
  test.each<[string | undefined, DpdkWish | undefined, string | undefined]>([
    ['igbvf', undefined, undefined],
    ['igbvf', {}, 'vfio-pci'],
    ['igbvf', { driver: 'igb_uio' }, 'igb_uio'],
    [undefined, {}, 'vfio-pci'],
    ['vfio-pci', undefined, 'vfio-pci'],
    ['uio_pci_generic', {}, 'uio_pci_generic'],
    ['igb_uio', { driver: 'igb_uio' }, 'igb_uio'],
    ['mlx5_core', {}, undefined],
    ['mlx4_core', {}, undefined],
    ['mana', {}, undefined],
    ['mlx5_core', { force: true }, 'vfio-pci'],
    ['mlx5_core', { driver: 'vfio-pci', force: true }, 'vfio-pci'],
  ])('on %s with %j: %s', (driver, wish, expected) =>
    expect(userspaceDriverFor(vfWith(driver), wish)).toBe(expected),
  );

  test.each<[string, DpdkWish, string]>([
    ['mlx5_core', { driver: 'vfio-pci' }, 'works on mlx5_core and finds no device without it'],
    ['vfio-pci', { driver: 'igb_uio' }, 'is on vfio-pci, and the network wants igb_uio'],
  ])('on %s with %j it is refused', (driver, wish, text) =>
    expect(() => userspaceDriverFor(vfWith(driver), wish)).toThrow(text),
  );
});

describe('which VFs of a pool are wanted', () => {
  test.each<[string | undefined, string[] | undefined, DpdkWish | undefined, string | undefined]>([
    ['igbvf', undefined, undefined, undefined],
    ['igbvf', undefined, {}, undefined],
    ['vfio-pci', undefined, {}, undefined],
    ['vfio-pci', undefined, { driver: 'vfio-pci' }, undefined],
    ['vfio-pci', ['vfio-pci'], undefined, undefined],
    ['vfio-pci', undefined, undefined, 'it is on vfio-pci'],
    ['vfio-pci', undefined, { driver: 'igb_uio' }, 'it is on vfio-pci'],
    ['igbvf', ['iavf', 'vfio-pci'], {}, 'its driver is igbvf, not iavf or vfio-pci'],
    [undefined, ['iavf'], {}, 'its driver is missing, not iavf'],
  ])('driver %s, filter %j, dpdk %j: %s', (driver, drivers, wish, why) =>
    expect(wrongKind(driver, drivers, wish)).toBe(why),
  );
});

/** An IOMMU group with these functions and their drivers. */
function group(number: string, members: Record<string, string | undefined>, more: Tree = {}): Tree {
  const path = `kernel/iommu_groups/${number}`;
  return {
    bus: {
      pci: {
        devices: Object.fromEntries(
          Object.entries(members).map(([member, driver]) => [
            member,
            { iommu_group: link(path), ...(driver ? { driver: link(`bus/pci/drivers/${driver}`) } : {}) },
          ]),
        ),
      },
    },
    kernel: {
      iommu_groups: {
        [number]: {
          ...more,
          devices: Object.fromEntries(
            Object.keys(members).map((member) => [member, link(`bus/pci/devices/${member}`)]),
          ),
        },
      },
    },
  };
}

describe('IOMMU groups', () => {
  const check = (tree: Tree, isClaimed = (_: string) => false) => {
    using sysfs = sysfsTree(igb, tree);
    requireIommu(sysfs.sys, findDevice(sysfs.sys, pci), isClaimed);
  };
  const other = '0000:01:00.1';

  test('a group of its own is fine', () => check(group('11', { [pci]: undefined })));

  test.each(['pcieport', 'pci-stub', 'vfio-pci', 'mlx5_vfio_pci', undefined])(
    'a neighbour on %s is fine',
    (driver) => check(group('11', { [pci]: undefined, [other]: driver })),
  );

  test('a device of the host in the group is named', () => {
    expect(() => check(group('11', { [pci]: undefined, [other]: 'ahci' }))).toThrow(
      `${other} is in the same IOMMU group 11, and the host uses it (driver ahci)`,
    );
  });

  test('a VF of another pod in the group is named', () => {
    const tree = group('11', { [pci]: undefined, [other]: 'vfio-pci' });
    expect(() => check(tree, (claimed) => claimed === other)).toThrow(
      `${other} is in the same IOMMU group 11, and another pod uses it`,
    );
  });

  test('no group is refused with the way out', () => {
    expect(() => check({})).toThrow(/in no IOMMU group.*intel_iommu=on.*enable_unsafe_noiommu_mode=1/);
    expect(() => check(noIommuMode('N'))).toThrow('in no IOMMU group');
  });

  test('no group is fine in no-IOMMU mode', () => check(noIommuMode('Y')));

  test.each([
    ['/dev/vfio/11', {}],
    ['/dev/vfio/noiommu-11', { name: 'vfio-noiommu\n' }],
  ])('a container needs %s', (file, more) => {
    using tree = sysfsTree(igb, group('11', { [pci]: undefined }, more));
    expect(vfioDeviceFile(tree.sys, pci)).toBe(file);
  });
});

function noIommuMode(mode: string): Tree {
  return { module: { vfio: { parameters: { enable_unsafe_noiommu_mode: `${mode}\n` } } } };
}

describe('before a VF is bound', () => {
  test('nothing is loaded where the driver is there', async () => {
    using tree = sysfsTree(igb, { bus: { pci: { drivers: { igb_uio: {} } } } });
    await loadDriver(tree.sys, findDevice(tree.sys, pci), 'igb_uio');
  });

  test('a driver that this kernel does not have is named', async () => {
    using tree = sysfsTree(igb);
    await expect(loadDriver(tree.sys, findDevice(tree.sys, pci), 'igb_uio')).rejects.toThrow(
      /to igb_uio: this kernel does not have that driver .*another "dpdk.driver"/,
    );
  });
});

describe('device-info', () => {
  test('of a ConnectX VF names its RDMA devices', () => {
    const tree = pfTree({ pci: '0000:01:00.0', driver: 'mlx5_core', vfDriver: 'mlx5_core' });
    using sysfs = sysfsTree(tree, devices({ [pci]: { infiniband: { mlx5_2: {}, mlx5_3: {} } } }));
    const vf = findDevice(sysfs.sys, pci);
    expect(userspaceDriverFor(vf, {})).toBeUndefined();
    expect(readDeviceInfo(sysfs.sys, vf, false, '/dev/null')).toEqual({
      'pci-address': pci,
      'pf-pci-address': '0000:01:00.0',
      'rdma-device': 'mlx5_2,mlx5_3',
    });
  });

  test('of a VF for userspace names vhost-net where the host has it', () => {
    using sysfs = sysfsTree(igb);
    const vf = findDevice(sysfs.sys, pci);
    expect(readDeviceInfo(sysfs.sys, vf, true, '/dev/null')).toEqual({
      'pci-address': pci,
      'pf-pci-address': '0000:01:00.0',
      'vhost-net': '/dev/null',
    });
    expect(readDeviceInfo(sysfs.sys, vf, true, '/dev/none')).not.toHaveProperty('vhost-net');
  });
});
