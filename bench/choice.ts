/** Prints what listing and ordering the VFs of a PF takes, over a sysfs tree of its own. */
import { nowMs } from '../src/kernel/clock.ts';
import { Log } from '../src/kernel/log.ts';
import type { Host } from '../src/vf/host.ts';
import { candidates } from '../src/vf/pool.ts';
import { pfTree, sysfsTree, temporaryTree } from '../test/support/sysfs-tree.ts';
import { median, table } from './table.ts';

function choiceMs(numVfs: number): number {
  const shape = { pci: '0000:01:00.0', ifname: 'ens1', numVfs, totalVfs: 256, stride: 1 };
  using tree = sysfsTree(pfTree(shape));
  using state = temporaryTree();
  const host = { sys: tree.sys, stateDir: state.root, log: new Log('error') } as Host;
  const pool = { pfs: [{ pf: 'ens1' }] } as Parameters<typeof candidates>[1];
  const times = Array.from({ length: 21 }, () => {
    const start = nowMs();
    if (candidates(host, pool).length !== numVfs) throw new Error('VFs are missing in the choice');
    return nowMs() - start;
  });
  return median(times);
}

console.log(
  table(
    ['VFs to choose from', 'ms'],
    [7, 64, 256].map((count) => [String(count), choiceMs(count).toFixed(2)]),
  ),
);
