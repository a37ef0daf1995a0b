import { describe, expect, test } from 'vitest';
import { parseNetwork } from '../../../src/inspect/network.ts';
import { runTool } from '../../../src/inspect/cli.ts';
import { manuals } from '../../../src/inspect/help.ts';
import { formatList, formatVlan, toJson } from '../../../src/inspect/list.ts';
import { select } from '../../../src/inspect/select.ts';
import type { Device } from '../../../src/inspect/device.ts';
import { formatAge, formatTable } from '../../../src/inspect/table.ts';
import { refuseInUse } from '../../../src/inspect/vfs.ts';
import type { Link } from '../../../src/kernel/link-message.ts';
import type { Host } from '../../../src/vf/host.ts';
import { pfTree, sysfsTree } from '../../support/sysfs-tree.ts';

const plain = { columns: undefined, hasColour: false };
const pf = { pci: '0000:03:00.0', ifname: 'ens1', driver: 'igb', numVfs: 2, totalVfs: 7 };

function linkOf(ifname: string): Link {
  return { ifname, altnames: ['alt-of-it'], mac: '02:00:00:00:00:01', mtu: 1500 } as unknown as Link;
}

function vf(index: number, more: Partial<Device> = {}): Device {
  const device = { pci: `0000:03:10.${index * 2}`, pf, index, driver: 'igbvf', ifnames: [] };
  return { vf: device, isPf: false, state: 'free', why: undefined, owner: undefined, since: undefined, link: linkOf(`ens1v${index}`), netns: '', rdma: undefined, settings: undefined, claim: undefined, before: undefined, holders: [], ...more }; // prettier-ignore
}

const owned = (pod: string | undefined, containerId: string) => ({
  pod,
  containerId,
  ifname: 'net1',
  network: 'storage',
  netns: '/run/netns/x',
  by: 'sriov' as const,
});

describe('the table', () => {
  test('is aligned without escape sequences where stdout is no terminal, and cuts nothing', () => {
    const long = 'x'.repeat(200);
    const rows = [
      [{ text: 'a', colour: 'red' as const }, { text: long }],
      [{ text: 'abc' }, { text: 'b' }],
    ];
    expect(formatTable(['N', 'LAST'], rows, plain)).toBe(`N    LAST\na    ${long}\nabc  b\n`);
  });

  test('cuts the last column to the terminal, and colours do not count as width', () => {
    const rows = [[{ text: 'a', colour: 'red' as const }, { text: 'x'.repeat(40) }]];
    expect(formatTable(['N', 'LAST'], rows, { columns: 20, hasColour: true })).toBe(
      `\x1b[1mN\x1b[0m  \x1b[1mLAST\x1b[0m\n\x1b[31ma\x1b[0m  ${'x'.repeat(16)}…\n`,
    );
  });

  test('of the longest names fits 120 columns', () => {
    const devices = [
      vf(0, {
        state: 'attached',
        since: '2026-01-01T00:00:00Z',
        owner: owned(
          'a-namespace-with-a-long-name/and-a-pod-with-a-long-name-7d9f8b6c5-x2x4z',
          'c'.repeat(64),
        ),
        link: linkOf('enp175s0f1v100x'),
        settings: { vlan: { id: 4094, qos: 7, proto: '802.1ad' } },
      }),
    ];
    const lines = formatList(devices, { columns: 120, hasColour: false }, Date.now()).trimEnd().split('\n');
    expect(Math.max(...lines.map((line) => line.length))).toBe(120);
    expect(lines[1]).toContain('4094 p7 ad  attached');
    expect(lines[1]).toMatch(/a-namespace-with-.*…$/);
  });

  test('calls a container by its name where it has one', () => {
    const owner = { ...owned(undefined, 'c'.repeat(64)), containerName: 'db' };
    const [, line] = formatList([vf(0, { state: 'attached', owner })], plain, 0).split('\n');
    expect(line).toMatch(/ container db \(storage\)$/);
  });

  test.each([
    [0, '0s'],
    [99, '99s'],
    [100, '2m'],
    [3 * 3600, '3h'],
    [5 * 86_400, '5d'],
    [-5, '0s'],
  ])('age of %d s is %s', (seconds, text) => {
    expect(formatAge(new Date(1e12).toISOString(), 1e12 + seconds * 1000)).toBe(text);
  });

  test.each([
    [undefined, undefined],
    [{ id: 0, qos: 0, proto: '802.1q' as const }, undefined],
    [{ id: 5, qos: 0, proto: '802.1q' as const }, '5'],
    [{ id: 5, qos: 3, proto: '802.1ad' as const }, '5 p3 ad'],
  ])('VLAN %j', (vlan, text) => {
    expect(formatVlan(vlan)).toBe(text);
  });

  test('--json keeps what the table cuts', () => {
    const json = toJson(
      vf(1, { state: 'attached', owner: owned('ns/pod', 'abc'), since: '2026-01-01T00:00:00Z' }),
    );
    expect(json).toMatchObject({
      pci: '0000:03:10.2',
      kind: 'vf',
      index: 1,
      pf: { pci: '0000:03:00.0', ifname: 'ens1' },
      state: 'attached',
      since: '2026-01-01T00:00:00Z',
      owner: { pod: 'ns/pod', containerId: 'abc', network: 'storage' },
      netdev: { ifname: 'ens1v1', mac: '02:00:00:00:00:01' },
    });
  });
});

describe('select()', () => {
  const devices = [
    vf(0, { owner: owned('default/web', 'abcdef1'), link: linkOf('net1'), netns: '/run/netns/x' }),
    vf(1, { owner: owned('default/web', 'abcdef1'), link: linkOf('net2'), netns: '/run/netns/x' }),
    vf(2, { owner: owned(undefined, 'abc999') }),
    vf(3, { owner: { ...owned(undefined, '77aa'), containerName: 'db' } }),
  ];
  const find = (text: string) => {
    using tree = sysfsTree(pfTree({ pci: pf.pci, ifname: 'ens1', numVfs: 4 }));
    return select({ sys: tree.sys } as Host, devices, text).map(({ vf: { index } }) => index);
  };

  test.each([
    ['0000:03:10.2', [1]],
    ['03:10.2', [1]],
    ['ens1#2', [2]],
    ['0000:03:00.0#3', [3]],
    ['ens1#0-1,3', [0, 1, 3]],
    ['db', [3]],
    ['ens1v3', [3]],
    ['alt-of-it', [2, 3]],
    ['default/web', [0, 1]],
    ['abcdef1', [0, 1]],
    ['abcd', [0, 1]],
    ['abc9', [2]],
  ])('%s', (text, indices) => {
    expect(find(text)).toEqual(indices);
  });

  test.each([
    ['abc', 'the beginning of 2 container ids: abcdef1, abc999'],
    ['net1', 'Nothing here is "net1"'],
    ['default/db', 'Nothing here is "default/db"'],
    ['ens1#9', 'There is no VF "ens1#9"'],
    ['ens9#0', 'There is no VF "ens9#0"'],
    ['0000:0a:00.0', 'no such PCI device'],
  ])('%s is refused: %s', (text, message) => {
    expect(() => find(text)).toThrow(message);
  });
});

describe('sriov vfs refuses while a VF of the PF is in use', () => {
  const other = { ...vf(0, { state: 'attached' }), vf: { ...vf(0).vf, pf: { ...pf, pci: '0000:04:00.0' } } };

  test.each<[string, Device[], string | undefined]>([
    ['all free', [vf(0), vf(1)], undefined],
    ['without driver', [vf(0, { state: 'unbound' })], undefined],
    ['of another PF', [other], undefined],
    [
      'attached',
      [vf(0), vf(1, { state: 'attached', owner: owned('a/b', 'c') })],
      'VF 1 (0000:03:10.2) is attached: a/b',
    ],
    [
      'stale',
      [vf(0, { state: 'stale', owner: owned(undefined, 'c1') })],
      'is stale: c1 (sriov gc gives stale ones back)',
    ],
    ['dpdk', [vf(0, { state: 'dpdk', why: 'bound to vfio-pci' })], 'is dpdk: bound to vfio-pci'],
    [
      'foreign',
      [vf(0, { state: 'foreign', why: 'it is enslaved to br0' })],
      'is foreign: it is enslaved to br0',
    ],
    ['held', [vf(0, { state: 'held', why: 'gone' })], 'is held: gone'],
    ['busy', [vf(0, { state: 'busy', why: 'an ADD' })], 'is busy: an ADD'],
    ['unreadable', [vf(0, { state: 'unreadable', why: 'Cannot read' })], 'is unreadable: Cannot read'],
    [
      'the PF in a pod',
      [{ ...vf(0, { state: 'attached', owner: owned('a/b', 'c') }), isPf: true }],
      'the PF itself is attached',
    ],
  ])('%s', (_, devices, message) => {
    if (message === undefined) expect(() => refuseInUse(pf, devices)).not.toThrow();
    else expect(() => refuseInUse(pf, devices)).toThrow(message);
  });
});

describe('parseNetwork()', () => {
  const plugin = { type: 'sriov', vlan: 5 };

  test('a .conf is one plugin', () => {
    const config = { cniVersion: '1.0.0', name: 'n', ...plugin };
    expect(parseNetwork(JSON.stringify(config))).toEqual({ name: 'n', plugins: [config], getsDevice: false });
  });

  test('a .conflist hands its name and version to each plugin', () => {
    const list = { cniVersion: '1.0.0', name: 'n', plugins: [plugin, { type: 'tuning' }] };
    expect(parseNetwork(JSON.stringify(list)).plugins).toEqual([
      { ...plugin, cniVersion: '1.0.0', name: 'n' },
      { type: 'tuning', cniVersion: '1.0.0', name: 'n' },
    ]);
  });

  const definition = (config: string, annotations?: object) =>
    JSON.stringify({
      kind: 'NetworkAttachmentDefinition',
      metadata: { name: 'nad', annotations },
      spec: { config },
    });

  test.each([
    ['{"type":"sriov"}', undefined, 'nad', false],
    ['{"type":"sriov","name":"own"}', undefined, 'own', false],
    ['{"type":"sriov"}', { 'k8s.v1.cni.cncf.io/resourceName': 'intel.com/vfs' }, 'nad', true],
    ['{"cniVersion":"1.0.0","plugins":[{"type":"sriov"}]}', undefined, 'nad', false],
  ])('a NetworkAttachmentDefinition with %s and %j', (config, annotations, name, getsDevice) => {
    const network = parseNetwork(definition(config, annotations));
    expect(network).toMatchObject({ name, getsDevice, plugins: [{ type: 'sriov', name }] });
  });

  test.each([
    ['{', 'Cannot parse the network configuration'],
    ['apiVersion: v1\nkind: NetworkAttachmentDefinition\n', 'this is YAML'],
    ['[]', 'Not a network configuration'],
    ['{"name":"x"}', 'Not a network configuration'],
    [definition('{'), 'Cannot parse "spec.config"'],
  ])('%j is refused: %s', (text, message) => {
    expect(() => parseNetwork(text)).toThrow(message);
  });
});

describe('the command line', () => {
  const run = (...args: string[]) => runTool(args, {}, '1.2.3');

  test.each([
    [['lsit'], 'Unknown command "lsit": did you mean "list"?'],
    [['frobnicate'], 'Unknown command "frobnicate" ("sriov --help"'],
    [['list', '--jsno'], 'Unknown option "--jsno": did you mean --json?'],
    [['gc', '--dryrun'], 'Unknown option "--dryrun": did you mean --dry-run?'],
    [['list', '-x'], 'Unknown option "-x"'],
    [['list', '--force'], 'sriov list: it takes no --force ("sriov help list"'],
    [['list', '--json=yes'], 'Option "--json" takes no value'],
    [['check', 'f', '--device'], 'Option "--device" needs a value'],
    [['check', 'f', '--device', 'ens1v0'], '--device takes the PCI address of a VF, not "ens1v0"'],
    [['help', 'frob'], 'Unknown command "frob"'],
  ])('%j is wrong: %s', async (args, message) => {
    const outcome = await run(...args);
    expect(outcome).toMatchObject({ exitCode: 2, stdout: '' });
    expect(outcome.stderr).toContain(message);
  });

  test('without words it prints the help on stderr', async () => {
    expect(await run()).toMatchObject({
      exitCode: 2,
      stdout: '',
      stderr: expect.stringContaining('sriov list') as string,
    });
  });

  test.each([[['--help']], [['-h']], [['help']]])('%j names every command', async (args) => {
    const { exitCode, stdout } = await run(...args);
    expect(exitCode).toBe(0);
    for (const name of Object.keys(manuals)) expect(stdout).toContain(`  sriov ${name}`);
  });

  test.each(Object.keys(manuals))('help %s is what %s --help prints', async (name) => {
    const { exitCode, stdout } = await run('help', name);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(new RegExp(`^sriov ${name}[^]*Exit code:`));
    expect(await run(name, '--help')).toEqual({ exitCode, stdout });
  });

  test('--version', async () => {
    expect(await run('--version')).toEqual({ exitCode: 0, stdout: 'sriov 1.2.3\n' });
  });
});
