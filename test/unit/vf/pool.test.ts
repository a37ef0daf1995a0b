import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { candidates, parsePfSelector } from '../../../src/vf/pool.ts';
import { devices, link, sysfsTree, temporaryTree, type Tree } from '../../support/sysfs-tree.ts';

describe('parsePfSelector() reads the form of the device plugins', () => {
  test.each([
    ['ens1f0', { pf: 'ens1f0' }],
    ['0000:03:00.0', { pf: '0000:03:00.0' }],
    ['ens1f0#0', { pf: 'ens1f0', ranges: [[0, 0]] }],
    ['ens1f0#0-3,7', { pf: 'ens1f0', ranges: [[0, 3], [7, 7]] }], // prettier-ignore
    ['ens1f0#', undefined],
    ['ens1f0#3-1', undefined],
    ['ens1f0#a', undefined],
    ['ens1f0#-1', undefined],
    ['ens1f0#1#2', undefined],
    ['a b', undefined],
    ['../x', undefined],
    ['', undefined],
  ])('%s', (text, selector) => expect(parsePfSelector(text)).toEqual(selector));
});

describe('candidates()', () => {
  /** A PF with four VFs. */
  const pf: Tree = {
    ...devices({
      '0000:03:00.0': {
        sriov_numvfs: '4\n',
        sriov_totalvfs: '8\n',
        sriov_offset: '128\n',
        sriov_stride: '1\n',
        net: { ens1: {} },
        ...Object.fromEntries(
          [0, 1, 2, 3].map((i) => [`virtfn${i}`, link(`bus/pci/devices/0000:03:10.${i}`)]),
        ),
      },
      ...Object.fromEntries(
        [0, 1, 2, 3].map((i) => [
          `0000:03:10.${i}`,
          { physfn: link('bus/pci/devices/0000:03:00.0'), net: { [`ens1v${i}`]: {} } },
        ]),
      ),
    }),
    class: { net: { ens1: { device: link('bus/pci/devices/0000:03:00.0') } } },
  };

  function indices(
    pool: Parameters<typeof candidates>[1],
    releasedAt: Record<number, number> = {},
  ): number[] {
    using tree = sysfsTree(pf);
    using state = temporaryTree();
    const locks = `${state.root}/pci/vf_lock`;
    mkdirSync(locks, { recursive: true });
    for (const [index, seconds] of Object.entries(releasedAt)) {
      const path = `${locks}/0000:03:10.${index}.lock`;
      writeFileSync(path, '');
      utimesSync(path, seconds, seconds);
    }
    const host = { sys: tree.sys, netns: Netns.current(), stateDir: state.root, bootId: '', log: new Log() };
    return candidates(host, pool).map((vf) => vf.index);
  }
  const pfs = [{ pf: 'ens1' }];

  test('are all VFs of the PF', () => expect(indices({ pfs }).sort()).toEqual([0, 1, 2, 3]));
  test('start with those that were never used, then the one unused for longest', () =>
    expect(indices({ pfs }, { 0: 300, 1: 100, 3: 200 })).toEqual([2, 1, 3, 0]));
  test.each<[string, Parameters<typeof candidates>[1], number[]]>([
    ['ranges', { pfs: [{ pf: '0000:03:00.0', ranges: [[1, 2]] }] }, [1, 2]],
    ['ranges beyond the last VF', { pfs: [{ pf: 'ens1', ranges: [[2, 9]] }] }, [2, 3]],
    ['an index', { pfs, index: 3 }, [3]],
    ['an index outside the ranges', { pfs: [{ pf: 'ens1', ranges: [[0, 1]] }], index: 3 }, []],
  ])('are narrowed by %s', (_, pool, expected) => expect(indices(pool).sort()).toEqual(expected));
  test('of a PF that is not there are an error', () =>
    expect(() => indices({ pfs: [{ pf: 'ens9' }] })).toThrow('Cannot find PF "ens9"'));
});
