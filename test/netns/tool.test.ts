import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { judge } from '../../src/inspect/dry-run.ts';
import { metrics } from '../../src/inspect/metrics.ts';
import { inspect } from '../../src/inspect/inspect.ts';
import { list } from '../../src/inspect/list.ts';
import { survey } from '../../src/inspect/survey.ts';
import { sweep } from '../../src/inspect/sweep.ts';
import { FileLock } from '../../src/kernel/files.ts';
import type { PodClaim } from '../../src/vf/claim.ts';
import { parseOpenMetrics, valueOf } from '../support/open-metrics.ts';
import { pfTree, type PfShape } from '../support/sysfs-tree.ts';
import { TestNetns } from '../support/netns.ts';
import { TestHost } from '../support/test-host.ts';

/** A host of a fake sysfs whose VFs' netdevs are dummies; igb's numbers: VF n of 0000:03:00.0 is 0000:03:10.(2n). */
function stage(shape: Partial<PfShape> = {}) {
  const all = new TestHost([pfTree({ pci: '0000:03:00.0', numVfs: 4, ...shape })], {
    claims: {},
    pci: { vf_lock: {} },
  });
  const { host, netns, state } = all;
  const pod = new TestNetns();
  for (const name of ['ens1', 'ens1v0', 'ens1v1', 'ens1v2', 'ens1v3'])
    netns.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
  return {
    host,
    netns,
    pod,
    claim(index: number, phase: PodClaim['phase'], path: string, more: Partial<PodClaim['owner']> = {}) {
      const pci = `0000:03:10.${2 * index}`;
      using inside = path === pod.path ? pod.open() : undefined;
      const claim: PodClaim = {
        version: 1,
        phase,
        since: '2026-01-01T00:00:00.000Z',
        vf: { pci, index, pf: { pci: '0000:03:00.0', ifname: 'ens1' } },
        owner: {
          network: 'storage',
          containerId: `container${index}`,
          ifname: 'net1',
          netns: { path, ...(inside?.identity ?? { inode: 1 }) },
          bootId: 'boot',
          ...more,
        },
        podIfname: 'net1',
        request: { config: {}, cniArgs: '', cniPath: '' },
        asked: {},
        original: { driver: 'igbvf', settings: {} },
      };
      writeFileSync(`${state.root}/claims/${pci}.json`, JSON.stringify(claim));
      return pci;
    },
    state,
    async states() {
      return Object.fromEntries(
        (await survey(host)).map(({ vf, isPf, state, why }) => [
          isPf ? 'pf' : vf.index,
          why === undefined ? state : `${state}: ${why}`,
        ]),
      );
    },
    [Symbol.dispose]() {
      for (const one of [pod, all]) one[Symbol.dispose]();
    },
  };
}

test('metrics: the counters are those of ip, on the host and in a pod; a file is written as stdout would be', async () => {
  using s = stage({ numVfs: 2 });
  for (const name of ['ens1v0', 'ens1v0p']) s.netns.ip('link', 'set', name, 'up');
  s.claim(1, 'attached', s.pod.path, { pod: 'shop/web' });
  s.netns.ip('link', 'set', 'ens1v1', 'up');
  const output = `${s.state.root}/sriov.prom`;
  const usual = { json: false, dryRun: false, force: false, device: undefined, env: {} };
  const flags = { ...usual, style: { columns: undefined, hasColour: false } };
  type Shown = { stats64: { tx: { bytes: number; packets: number } } }[];
  const shown = () => (s.netns.ipJson('-s', 'link', 'show', 'ens1v0') as Shown)[0]?.stats64.tx;
  // What IPv6 sends when a link comes up.
  await expect.poll(() => shown()?.packets, { timeout: 10_000 }).toBeGreaterThan(0);
  const before = shown();
  expect(await metrics(s.host, { ...flags, output })).toEqual({ exitCode: 0, stdout: '' });
  const after = shown();
  const families = parseOpenMetrics(readFileSync(output, 'utf8'));
  const sent = valueOf(families, 'sriov_vf_transmit_bytes_total', { vf: '0', source: 'netdev' });
  expect(sent).toBeGreaterThanOrEqual(before?.bytes ?? Infinity);
  expect(sent).toBeLessThanOrEqual(after?.bytes ?? 0);
  expect(statSync(output).mode & 0o777).toBe(0o644);
  const { stdout } = await metrics(s.host, { ...flags, output: undefined });
  expect(parseOpenMetrics(stdout).map(({ name }) => name)).toEqual(families.map(({ name }) => name));
});

describe('survey()', () => {
  test('unclaimed VFs: free, or what the host does with them', async () => {
    using s = stage();
    s.netns.ip('link', 'set', 'ens1', 'up');
    s.netns.ip('address', 'add', '192.0.2.1/24', 'dev', 'ens1v1');
    s.netns.ip('link', 'add', 'br0', 'type', 'bridge');
    s.netns.ip('link', 'set', 'ens1v2', 'master', 'br0');
    s.netns.ip('link', 'del', 'ens1v3');
    expect(await s.states()).toEqual({
      pf: 'up: 4 of 7 VFs',
      0: 'free',
      1: 'foreign: it has an IP address on the host',
      2: expect.stringMatching(/^foreign: it is enslaved to /) as string,
      3: 'foreign: its driver igbvf shows no netdev on the host',
    });
  });

  test('claims: of a living pod, a dead one, another boot, an ADD at work and one that died', async () => {
    using s = stage({ numVfs: 4 });
    s.claim(0, 'attached', s.pod.path, { pod: 'default/web' });
    s.claim(1, 'attached', '/run/netns/sriov-test-none');
    const busy = s.claim(2, 'adding', s.pod.path);
    s.claim(3, 'adding', s.pod.path);
    using lock = FileLock.take(`${s.state.root}/pci/vf_lock/${busy}.lock`, 0);
    expect(lock).toBeDefined();
    expect(await s.states()).toEqual({
      pf: 'down: 4 of 7 VFs',
      0: `attached: its pod's network namespace "${s.pod.path}" exists`,
      1: 'stale: its pod\'s network namespace "/run/netns/sriov-test-none" is gone',
      2: 'busy: an ADD is at work on it',
      3: 'stale: the ADD that made it died',
    });
    const [, first] = await survey(s.host);
    expect(first?.owner).toMatchObject({
      pod: 'default/web',
      containerId: 'container0',
      network: 'storage',
      by: 'sriov',
    });
    expect(first?.since).toBe('2026-01-01T00:00:00.000Z');
  });

  test('claims: of another boot, unreadable, on a VF that is gone', async () => {
    using s = stage({ numVfs: 2 });
    s.claim(0, 'attached', s.pod.path, { bootId: 'before' });
    writeFileSync(`${s.state.root}/claims/0000:03:10.2.json`, '{');
    s.claim(3, 'attached', s.pod.path);
    expect(await s.states()).toEqual({
      pf: 'down: 2 of 7 VFs',
      0: 'stale: the machine was restarted',
      1: expect.stringMatching(/^unreadable: Cannot read the claim /) as string,
      3: 'gone: it was VF 3 of PF ens1; its claim is still there',
    });
  });

  test("the Go plugin's attachments, with their container from its cache", async () => {
    using s = stage({ numVfs: 1 });
    writeFileSync(`${s.state.root}/pci/0000:03:10.0`, s.pod.path);
    const cache = {
      name: 'gonet',
      deviceID: '0000:03:10.0',
      vlan: 100,
      OrigVfState: { HostIFName: 'ens1v0', Vlan: 7 },
    };
    writeFileSync(`${s.state.root}/abc-def-net1`, JSON.stringify(cache));
    const [, vf] = await survey(s.host);
    expect(vf).toMatchObject({
      state: 'attached',
      owner: { containerId: 'abc-def', ifname: 'net1', network: 'gonet', netns: s.pod.path, by: 'Go plugin' },
      before: { vlan: { id: 7 } },
    });
  });

  test('VFs under a userspace driver and without any', async () => {
    using vfio = stage({ numVfs: 1, vfDriver: 'vfio-pci' });
    expect(await vfio.states()).toMatchObject({ 0: 'dpdk: bound to vfio-pci' });
  });
});

test('looking changes nothing: list, inspect and gc --dry-run leave the state folder as it was', async () => {
  using s = stage({ numVfs: 4 });
  const { root } = s.state;
  s.claim(0, 'attached', s.pod.path);
  s.claim(1, 'adding', '/run/netns/gone');
  writeFileSync(`${root}/claims/0000:03:10.4.json`, '{');
  writeFileSync(`${root}/claims/0000:03:10.6.json`, '{"version":3}');
  writeFileSync(`${root}/claims/0000:03:10.2.json.tmp`, '{');
  mkdirSync(`${root}/leases`);
  const claim = JSON.parse(readFileSync(`${root}/claims/0000:03:10.2.json`, 'utf8')) as object;
  const lease = { ...claim, freeing: { tries: 2, lastError: 'away' } };
  writeFileSync(`${root}/leases/0000:03:10.2-2026.json`, JSON.stringify(lease));
  const goCache = { name: 'gonet', deviceID: '0000:03:10.2', OrigVfState: { HostIFName: 'ens1v1' } };
  writeFileSync(`${root}/dead-net1`, JSON.stringify(goCache));
  const everything = () =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .sort()
      .map((name) => {
        const { mtimeMs, ino, size } = statSync(`${root}/${name}`);
        return { name, mtimeMs, ino, size };
      });
  const before = everything();
  const flags = {
    json: false,
    dryRun: true,
    force: false,
    device: undefined,
    output: undefined,
    env: {},
    style: { columns: undefined, hasColour: false },
  };
  expect((await list(s.host, flags)).stdout).toMatch(/LEASE[^]*0000:03:10.2-2026[^]*away/);
  await inspect(s.host, ['ens1#1'], flags);
  const { stdout } = await sweep(s.host, flags);
  expect(everything()).toEqual(before);
  expect(stdout).toMatch(/10\.2 {2}would be given back/);
  expect(stdout).toMatch(/10\.4 {2}failed: .*it is not JSON/);
  expect(stdout).toMatch(/10\.6 {2}left alone: .*later version/);
  expect(stdout).toMatch(/10\.2-2026 {2}would be freed/);
});

describe('sriov check', () => {
  const base = { cniVersion: '1.0.0', name: 'net', type: 'sriov' };
  const env = { CNI_PATH: '/nowhere' };

  test.each<[string, object, number, string]>([
    ['a wrong value', { pf: 'ens1', vlan: 5000 }, 7, '"vlan": 5000 is not allowed'],
    ['a misspelt key', { pf: 'ens1', trsut: 'on' }, 7, 'did you mean "trust"?'],
    ['no device', {}, 7, 'it names no device'],
    ['an unknown PF', { pf: 'ens9' }, 100, 'Cannot find PF "ens9"'],
    ['an unknown VF', { deviceID: '0000:09:10.0' }, 100, 'no such PCI device'],
    ['a PF as a VF', { deviceID: '0000:03:00.0' }, 100, 'it is a physical function'],
    ['an index that there is not', { pf: 'ens1', vf: 6 }, 100, 'no VF of ens1 has the index'],
    [
      'an IPAM plugin that is not there',
      { pf: 'ens1', ipam: { type: 'host-local' } },
      4,
      'Cannot find IPAM plugin "host-local"',
    ],
    [
      'a version that cannot express it',
      { pf: 'ens1', cniVersion: '0.2.0' },
      2,
      'cannot express a result without IP addresses',
    ],
    ['a driver that no VF has', { pf: 'ens1', driver: 'iavf' }, 11, 'No VF of ens1 is free'],
    [
      'a VF that a pod has',
      { deviceID: '0000:03:10.0' },
      11,
      'VF 0 of PF ens1 (0000:03:10.0) belongs to default/web',
    ],
    [
      'settings that the driver of the PF does not have',
      { deviceID: '0000:03:10.6', vlan: 5, trust: 'on' },
      2,
      'Cannot set "vlan": 5, "trust": "on" on VF 3 of PF ens1 (0000:03:10.6): the driver igb of PF ens1 has no settings of VFs (EOPNOTSUPP)',
    ],
  ])('refuses %s', async (_, config, code, message) => {
    using s = stage();
    s.claim(0, 'attached', s.pod.path, { pod: 'default/web' });
    const { refused } = await judge(s.host, { ...base, ...config }, env, false);
    expect(refused.map(({ message }) => message).join('\n')).toContain(message);
    expect(refused.map(({ code }) => code)).toContain(code);
  });

  test('of a pool takes a free VF, then one whose claim is stale, and writes nothing', async () => {
    using s = stage({ numVfs: 2 });
    s.claim(0, 'attached', '/run/netns/sriov-test-none');
    const files = () => readdirSync(s.state.root, { recursive: true }).sort();
    const before = files();
    expect((await judge(s.host, { ...base, pf: 'ens1' }, env, false)).devices[0]?.takes.index).toBe(1);
    s.netns.ip('address', 'add', '192.0.2.1/24', 'dev', 'ens1v1');
    const verdict = await judge(s.host, { ...base, pf: 'ens1' }, env, false);
    expect(verdict.devices[0]?.takes.index).toBe(0);
    expect(verdict.notes.join()).toContain('would first be given back');
    expect(files()).toEqual(before);
  });

  test('leaves the device to Multus where the definition has a resource', async () => {
    using s = stage();
    const { refused, notes } = await judge(s.host, base, env, true);
    expect(refused).toEqual([]);
    expect(notes.join()).toContain('Multus will add the device');
  });
});
