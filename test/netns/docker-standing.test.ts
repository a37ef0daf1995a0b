import { rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { anythingStale, collectAll, type Selection } from '../../src/attach/collect.ts';
import { standingOf } from '../../src/attach/standing.ts';
import { noteStarting } from '../../src/docker/starting.ts';
import { nowMs } from '../../src/kernel/clock.ts';
import { Log } from '../../src/kernel/log.ts';
import { startOf } from '../../src/kernel/process.ts';
import type { EndpointClaim } from '../../src/vf/claim.ts';
import { readClaim, writeClaim } from '../../src/vf/claims.ts';
import type { Host } from '../../src/vf/host.ts';
import { dockerApi } from '../support/docker-api.ts';
import { TestNetns } from '../support/netns.ts';
import { pfTree, sysfsTree, temporaryTree } from '../support/sysfs-tree.ts';

const pci = '0000:03:10.0';

const started = startOf(process.pid);
const alive = { pid: process.pid, started: started ?? '' };
/** Another process had its id before. */
const dead = { pid: process.pid, started: `${started}0` };
const long = 180_000;

interface Case {
  readonly phase: EndpointClaim['phase'];
  /** Where the VF is: its netdev on the host or in another namespace, under a userspace driver, under none. */
  readonly vf: 'on the host' | 'elsewhere' | 'on vfio-pci' | 'without driver' | 'gone';
  readonly ageMs?: number;
  readonly dockerd?: EndpointClaim['owner']['dockerd'] | undefined;
  readonly bootId?: string;
  /** What its path leads to: an empty namespace, one of another cookie, a file, nothing. */
  readonly sandbox?: 'there' | 'another' | 'a file' | 'gone';
}

function claimOf(
  given: Pick<EndpointClaim, 'phase'> & { phaseMs?: number } & Partial<EndpointClaim['owner']>,
): EndpointClaim {
  const { phase, phaseMs = 0, ...owner } = given;
  return {
    version: 2,
    phase,
    phaseMs,
    owner: { kind: 'docker', network: 'n', endpointId: 'e', bootId: 'b', ...owner },
    hostIfname: 'v0310_0',
    join: { prefix: 'eth', hasGateway: true },
    since: '2026-01-01T00:00:00.000Z',
    vf: { pci, index: 0, pf: { pci: '0000:03:00.0', ifname: 'ens1' } },
    asked: {},
    original: { driver: 'igbvf', settings: {} },
  };
}

async function standing(one: Case) {
  const { phase, vf, ageMs = 0, dockerd = alive, bootId = 'b', sandbox } = one;
  using host = new TestNetns();
  using pod = new TestNetns();
  using inside = pod.open();
  if (vf === 'on the host') host.ip('link', 'add', 'ens1v0', 'type', 'veth', 'peer', 'name', 'peer');
  const vfDriver = vf === 'on vfio-pci' ? 'vfio-pci' : 'igbvf';
  using tree = sysfsTree(pfTree({ pci: '0000:03:00.0', vfDriver, numVfs: vf === 'gone' ? 0 : 2 }));
  if (vf === 'without driver') {
    const device = `${tree.sys.root}/bus/pci/devices/${pci}`;
    for (const name of ['driver', 'net']) rmSync(`${device}/${name}`, { recursive: true });
  }
  using netns = host.open();
  const machine: Host = { sys: tree.sys, netns, stateDir: '/nowhere', bootId: 'b', log: new Log('panic') };
  const paths = { there: pod.path, another: pod.path, 'a file': '/etc/hostname', gone: '/nowhere/x' };
  const identity = {
    there: inside.identity,
    another: { cookie: '1', inode: 1 },
    'a file': {},
    gone: inside.identity,
  };
  const claim = claimOf({
    phase,
    phaseMs: nowMs() - ageMs,
    bootId,
    dockerd: 'dockerd' in one ? one.dockerd : dockerd,
    sandbox: sandbox && { path: paths[sandbox], ...identity[sandbox] },
  });
  return await standingOf(machine, claim, 50);
}

test("a GC of CNI's with its list of valid attachments takes nothing of Docker's", async () => {
  using netns = new TestNetns();
  using own = netns.open();
  using tree = sysfsTree(pfTree({ pci: '0000:03:00.0' }));
  using state = temporaryTree({});
  const host: Host = { sys: tree.sys, netns: own, stateDir: state.root, bootId: 'b', log: new Log('panic') };
  writeClaim(host, claimOf({ phase: 'adding' }), false);
  const collect = (selection: Selection) => collectAll(host, { env: {} }, selection, true);
  expect(await collect({ network: 'n', valid: [] })).toEqual([]);
  expect(await collect({ network: undefined, valid: [] })).toEqual([]);
  expect(await collect({ network: 'n', valid: undefined })).toEqual([]);
  expect(await collect(anythingStale)).toMatchObject([{ what: pci, outcome: 'given back' }]);
});

describe('a start that takes long', () => {
  const network = (...endpoints: string[]) => ({
    '/networks/n': {
      Id: 'n',
      // One that is being started has no container as yet: "ep-" and its id.
      Containers: Object.fromEntries(endpoints.map((EndpointID) => [`ep-${EndpointID}`, { EndpointID }])),
    },
  });

  test.each<[string, Case, Record<string, unknown>, 'live' | 'stale']>([
    [
      'goes on while Docker has the endpoint',
      { phase: 'joined', vf: 'on the host' },
      network('x', 'e'),
      'live',
    ],
    ['likewise before Join', { phase: 'lent', vf: 'on the host' }, network('e'), 'live'],
    [
      'likewise for a process that drives the VF',
      { phase: 'joined', vf: 'on vfio-pci' },
      network('e'),
      'live',
    ],
    ['is over when Docker has others only', { phase: 'joined', vf: 'on the host' }, network('x'), 'stale'],
    ['is over when Docker does not have the network', { phase: 'joined', vf: 'on the host' }, {}, 'stale'],
    [
      'is over with its dockerd',
      { phase: 'joined', vf: 'on the host', dockerd: dead },
      network('e'),
      'stale',
    ],
    ['has nothing to do with an end', { phase: 'leaving', vf: 'on the host' }, network('e'), 'stale'],
  ])('%s', async (_, { phase, vf, dockerd = alive }, answers, expected) => {
    using netns = new TestNetns();
    if (vf === 'on the host') netns.ip('link', 'add', 'ens1v0', 'type', 'veth', 'peer', 'name', 'peer');
    using own = netns.open();
    const vfDriver = vf === 'on vfio-pci' ? 'vfio-pci' : 'igbvf';
    using tree = sysfsTree(pfTree({ pci: '0000:03:00.0', vfDriver }));
    using state = temporaryTree({});
    const log = new Log('panic');
    const host: Host = { sys: tree.sys, netns: own, stateDir: state.root, bootId: 'b', log };
    const isUserspace = vf === 'on vfio-pci';
    const claim = {
      ...claimOf({ phase, phaseMs: nowMs() - long, dockerd, sandbox: { path: '/nowhere/x' } }),
      ...(isUserspace && { dpdk: { driver: 'vfio-pci' } }),
    };
    writeClaim(host, claim, false);
    expect(await standingOf(host, claim, 50)).toMatchObject({ state: 'stale' });
    using docker = await dockerApi(`${state.root}/docker.sock`, answers);
    await noteStarting(host, `${state.root}/docker.sock`);
    expect(docker.asked).toEqual(phase === 'leaving' ? [] : ['/networks/n']);
    const noted = readClaim(host, pci);
    expect(noted && (await standingOf(host, noted, 50))).toMatchObject({ state: expected });
  });
});

describe("whether a claim of Docker's stands", () => {
  test.each<[Case, 'live' | 'stale' | 'held', RegExp]>([
    // CreateEndpoint and DeleteEndpoint hold the VF's lock while they work.
    [{ phase: 'adding', vf: 'on the host' }, 'stale', /CreateEndpoint that made it died/],
    [{ phase: 'releasing', vf: 'elsewhere', sandbox: 'there' }, 'stale', /interrupted/],
    [{ phase: 'joined', vf: 'elsewhere', sandbox: 'there', bootId: 'before' }, 'stale', /restarted/],
    [{ phase: 'joined', vf: 'gone', sandbox: 'there' }, 'stale', /the VF is gone/],
    // Between CreateEndpoint and the move: nobody may take it.
    [{ phase: 'lent', vf: 'on the host' }, 'live', /starting its container/],
    [{ phase: 'lent', vf: 'on the host', dockerd: undefined }, 'live', /starting/],
    [{ phase: 'joined', vf: 'on the host', sandbox: 'gone' }, 'live', /starting/],
    [{ phase: 'joined', vf: 'on the host', sandbox: 'there' }, 'live', /starting/],
    // dockerd was killed, or has forgotten it.
    [{ phase: 'lent', vf: 'on the host', dockerd: dead }, 'stale', /no container is being started/],
    [{ phase: 'joined', vf: 'on the host', sandbox: 'gone', dockerd: dead }, 'stale', /no container/],
    [{ phase: 'lent', vf: 'on the host', ageMs: long }, 'stale', /no container is being started/],
    [{ phase: 'joined', vf: 'on the host', sandbox: 'there', ageMs: long }, 'stale', /no container/],
    [{ phase: 'leaving', vf: 'on the host', sandbox: 'there' }, 'stale', /no container/],
    // The container has moved it on, or its virtual machine has it.
    [
      { phase: 'joined', vf: 'elsewhere', sandbox: 'there', ageMs: long },
      'live',
      /container has the sandbox/,
    ],
    [{ phase: 'joined', vf: 'elsewhere', sandbox: 'there', dockerd: dead }, 'live', /container has/],
    [{ phase: 'joined', vf: 'on vfio-pci', sandbox: 'there', ageMs: long }, 'live', /container has/],
    [{ phase: 'joined', vf: 'without driver', sandbox: 'there', ageMs: long }, 'live', /container has/],
    // The container is gone.
    [{ phase: 'joined', vf: 'elsewhere', sandbox: 'gone', ageMs: long }, 'held', /something still holds/],
    [{ phase: 'joined', vf: 'elsewhere', sandbox: 'another', ageMs: long }, 'held', /something still holds/],
    [{ phase: 'joined', vf: 'elsewhere', sandbox: 'a file', ageMs: long }, 'held', /something still holds/],
    [{ phase: 'leaving', vf: 'elsewhere', sandbox: 'gone' }, 'held', /something still holds/],
    [{ phase: 'joined', vf: 'on vfio-pci', sandbox: 'gone', ageMs: long }, 'stale', /container is gone/],
    [{ phase: 'joined', vf: 'without driver', sandbox: 'gone', dockerd: dead }, 'stale', /is gone/],
    [{ phase: 'leaving', vf: 'on vfio-pci', sandbox: 'there' }, 'stale', /container is gone/],
    // A DPDK endpoint has no netdev, and before Docker 28 no sandbox until its container runs.
    [{ phase: 'lent', vf: 'on vfio-pci' }, 'live', /starting/],
    [{ phase: 'joined', vf: 'on vfio-pci', sandbox: 'gone' }, 'live', /starting/],
    [{ phase: 'joined', vf: 'on vfio-pci', sandbox: 'gone', dockerd: dead }, 'stale', /is gone/],
  ])('%j: %s', async (one, state, why) => {
    expect(await standing(one)).toEqual({ state, why: expect.stringMatching(why) as string });
  });
});
