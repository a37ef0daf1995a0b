import { describe, expect, test } from 'vitest';
import { planRdma } from '../../../src/attach/rdma-plan.ts';
import type { Wish } from '../../../src/attach/wish.ts';
import { readDeviceInfo } from '../../../src/dpdk/device-info.ts';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import type { Sysfs } from '../../../src/kernel/sysfs.ts';
import { renumbered, rdmaFiles, rdmaName, rdmaNames, showRdma } from '../../../src/rdma/rdma-device.ts';
import { findDevice } from '../../../src/vf/inventory.ts';
import { devices, pfTree, sysfsTree, type Tree } from '../../support/sysfs-tree.ts';

const pci = '0000:01:10.0';
const mlx5 = pfTree({ pci: '0000:01:00.0', driver: 'mlx5_core', vfDriver: 'mlx5_core' });

/** What a VF shows of its RDMA device: on the host, or while a pod has it (and may have renamed it). */
const files = (name: string): Tree => ({
  infiniband_mad: { umad3: { ibdev: `${name}\n` }, issm3: { ibdev: `${name}\n` } },
  infiniband_verbs: { uverbs3: { ibdev: `${name}\n`, dev: '231:195\n' } },
});
const onHost = devices({ [pci]: { infiniband: { mlx5_3: {} }, ...files('mlx5_3') } });
const inPod = devices({ [pci]: { ...files('tenant0') } });

describe("a VF's RDMA device", () => {
  test('on the host', () => {
    using tree = sysfsTree(mlx5, onHost);
    expect(rdmaNames(tree.sys, pci)).toEqual(['mlx5_3']);
    expect(rdmaFiles(tree.sys, pci)).toEqual(['issm3', 'umad3', 'uverbs3']);
    expect(showRdma(tree.sys, pci)).toEqual({
      name: 'mlx5_3',
      files: ['issm3', 'umad3', 'uverbs3'],
      isOnHost: true,
    });
  });

  test('in a pod, which has renamed it, is told by its character devices', () => {
    using tree = sysfsTree(mlx5, inPod);
    expect(rdmaNames(tree.sys, pci)).toEqual([]);
    expect(rdmaName(tree.sys, pci)).toBe('tenant0');
    expect(showRdma(tree.sys, pci)).toMatchObject({ name: 'tenant0', isOnHost: false });
    expect(readDeviceInfo(tree.sys, findDevice(tree.sys, pci), false)).toMatchObject({
      'rdma-device': 'tenant0',
    });
  });

  test('of which there is none', () => {
    using tree = sysfsTree(mlx5);
    expect(showRdma(tree.sys, pci)).toBeUndefined();
    expect(readDeviceInfo(tree.sys, findDevice(tree.sys, pci), false)).not.toHaveProperty('rdma-device');
  });

  test.each<[string, string[], string | undefined]>([
    ['the same files', ['umad3', 'uverbs3'], undefined],
    ['files of a module that was loaded since', ['uverbs3'], undefined],
    ['no files before', [], undefined],
    ['another number', ['umad3', 'uverbs2'], 'umad3, uverbs2 are issm3, umad3, uverbs3 now'],
  ])('with %s', (_, before, expected) => {
    using tree = sysfsTree(mlx5, inPod);
    expect(renumbered(tree.sys, pci, { name: 'mlx5_3', files: before, moves: true })).toBe(expected);
  });

  test('whose files are gone', () => {
    using tree = sysfsTree(mlx5);
    const record = { name: 'mlx5_3', files: ['uverbs3'], moves: true };
    expect(renumbered(tree.sys, pci, record)).toBe('uverbs3 are gone now');
  });
});

describe('what is planned with it', () => {
  const plan = async (sys: Sysfs, wish: Pick<Wish, 'rdma'>, userspace?: string) => {
    using netns = Netns.current();
    const host = { sys, netns, stateDir: '/nonexistent', bootId: '', log: new Log('panic') };
    return await planRdma(host, wish as Wish, findDevice(sys, pci), userspace);
  };
  const record = { name: 'mlx5_3', index: undefined, files: ['issm3', 'umad3', 'uverbs3'], moves: false };

  test('"rdma": false leaves it where it is', async () => {
    using tree = sysfsTree(mlx5, onHost);
    expect(await plan(tree.sys, { rdma: false })).toEqual(record);
  });

  test('it goes when the VF is given to a userspace driver, and is the same when it comes back', async () => {
    using tree = sysfsTree(mlx5, onHost);
    expect(await plan(tree.sys, { rdma: undefined }, 'vfio-pci')).toEqual(record);
  });

  test('of several none is taken', async () => {
    using tree = sysfsTree(mlx5, onHost, devices({ [pci]: { infiniband: { mlx5_4: {} } } }));
    expect(await plan(tree.sys, { rdma: undefined })).toBeUndefined();
    await expect(plan(tree.sys, { rdma: true })).rejects.toThrow(
      '"rdma": true takes a VF with one RDMA device, and VF 0 of PF ens1 (0000:01:10.0) has mlx5_3, mlx5_4',
    );
  });

  test('one that is asked for must be there', async () => {
    using none = sysfsTree(mlx5);
    await expect(plan(none.sys, { rdma: true })).rejects.toThrow(
      /VF 0 of PF ens1 \(0000:01:10\.0\) has no RDMA device on the host, which "rdma": true asks for: its driver mlx5_core shows none/,
    );
    using away = sysfsTree(mlx5, inPod);
    await expect(plan(away.sys, { rdma: true })).rejects.toThrow('it is in another network namespace');
    using there = sysfsTree(mlx5, onHost);
    await expect(plan(there.sys, { rdma: true }, 'vfio-pci')).rejects.toThrow(
      `"rdma": true needs the kernel's driver, and a VF on vfio-pci has no RDMA device`,
    );
  });
});
