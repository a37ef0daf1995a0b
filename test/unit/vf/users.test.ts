import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { describeHolders, holdersOf } from '../../../src/vf/users.ts';
import { devices, link, pfTree, sysfsTree, type Tree } from '../../support/sysfs-tree.ts';

const pci = '0000:01:10.0';
const igb = pfTree({ pci: '0000:01:00.0' });
/** A device file that nobody has open, in the place of the VF's. */
const file = { path: '/dev/full', number: '1:7\n' };

const inGroup = (name: string): Tree => ({
  ...devices({ [pci]: { iommu_group: link('kernel/iommu_groups/11') } }),
  kernel: { iommu_groups: { '11': {} } },
  class: { vfio: { [name]: { dev: file.number } } },
});

describe('who drives a VF from userspace', () => {
  test.each<[string, Tree]>([
    ['its VFIO group', inGroup('11')],
    ['its VFIO group without an IOMMU', inGroup('noiommu-11')],
    ['its device of iommufd', devices({ [pci]: { 'vfio-dev': { vfio0: { dev: file.number } } } })],
    ['its UIO device', devices({ [pci]: { uio: { uio0: { dev: file.number } } } })],
    ['its verbs device', devices({ [pci]: { infiniband_verbs: { uverbs0: { dev: file.number } } } })],
  ])('is found by %s', async (_, tree) => {
    using sysfs = sysfsTree(igb, tree);
    expect(holdersOf(sysfs.sys, pci)).toEqual([]);
    const fd = openSync(file.path, 'r');
    const holder = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    closeSync(fd);
    try {
      await once(holder, 'spawn');
      const found = holdersOf(sysfs.sys, pci);
      expect(found).toEqual([{ pid: holder.pid, program: 'sleep' }]);
      expect(describeHolders(found)).toBe(`sleep (pid ${holder.pid})`);
    } finally {
      holder.kill('SIGKILL');
      await once(holder, 'exit');
    }
    expect(holdersOf(sysfs.sys, pci)).toEqual([]);
  });

  test('a VF without such devices costs no look at the processes', () => {
    using sysfs = sysfsTree(igb);
    expect(holdersOf(sysfs.sys, pci)).toEqual([]);
  });
});
