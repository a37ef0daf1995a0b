import { readUsableClaim } from '../../../src/attach/recovery.ts';
import { modifiedMs } from '../../../src/kernel/files.ts';
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { Sysfs } from '../../../src/kernel/sysfs.ts';
import { type Claim, LaterClaim, UnreadableClaim } from '../../../src/vf/claim.ts';
import {
  findClaims,
  listClaims,
  readClaim,
  removeClaim,
  setAside,
  sweepUnfinished,
  writeClaim,
} from '../../../src/vf/claims.ts';
import { lockPath, lockVf } from '../../../src/vf/vf-lock.ts';
import type { Host } from '../../../src/vf/host.ts';
import { temporaryTree } from '../../support/sysfs-tree.ts';

const pci = '0000:01:10.0';
const claim: Claim = {
  version: 1,
  phase: 'attached',
  since: '2026-11-23T10:00:00.000Z',
  vf: { pci, index: 0, pf: { pci: '0000:01:00.0', ifname: 'ens1' } },
  owner: {
    network: 'net',
    containerId: 'c',
    ifname: 'net1',
    netns: { path: '/run/netns/c', inode: 4_026_532_000, cookie: '77' },
    bootId: 'b',
    pod: 'default/web',
  },
  podIfname: 'net1',
  deviceInfoFile: undefined,
  request: {
    config: { name: 'net', type: 'sriov', own: [1, { x: null }] },
    cniArgs: '',
    cniPath: '/opt/cni/bin',
  },
  asked: { vlan: { id: 100, qos: 3, proto: '802.1q' }, trust: true },
  original: {
    driver: 'igbvf',
    settings: { mac: '02:00:00:00:00:01', spoofchk: true, rateMbps: { min: 0, max: 0 } },
    netdev: {
      ifname: 'ens1f0v0',
      altnames: ['enp1s0f0v0'],
      mac: '02:00:00:00:00:01',
      mtu: 1500,
      promisc: false,
      allmulti: false,
    },
  },
};

function hostIn(root: string): Host {
  return {
    sys: new Sysfs(root),
    netns: Netns.current(),
    stateDir: `${root}/state`,
    bootId: 'b',
    log: new Log('panic'),
  };
}

function onHost(run: (host: Host, claimFile: string) => void): () => void {
  return () => {
    using tree = temporaryTree({ state: { claims: {} } });
    run(hostIn(tree.root), `${tree.root}/state/claims/${pci}.json`);
  };
}

describe('a claim', () => {
  test(
    'is read back as it was written, and its file is for root only',
    onHost((host, file) => {
      writeClaim(host, claim, true);
      expect(readClaim(host, pci)).toEqual(JSON.parse(JSON.stringify(claim)));
      expect(listClaims(host)).toEqual([pci]);
      expect(readdirSync(`${host.stateDir}/claims`)).toEqual([`${pci}.json`]);
      expect(existsSync(`${file}.tmp`)).toBe(false);
    }),
  );

  test(
    'is found by its attachment, and so is a second one',
    onHost((host) => {
      const found = (containerId: string, ifname: string) =>
        findClaims(host, containerId, ifname).map(({ vf }) => vf.pci);
      writeClaim(host, claim, false);
      expect(found('c', 'net1')).toEqual([pci]);
      expect(found('c', 'net2')).toEqual([]);
      expect(found('d', 'net1')).toEqual([]);
      writeClaim(host, { ...claim, vf: { ...claim.vf, pci: '0000:01:10.2' } }, false);
      expect(found('c', 'net1')).toEqual([pci, '0000:01:10.2']);
    }),
  );

  test(
    'of a later version is kept, and stops only the DEL of its own attachment',
    onHost((host, file) => {
      const text = JSON.stringify({ version: 3, owner: { kind: 'later', containerId: 'theirs' } });
      writeFileSync(file, text);
      expect(() => readClaim(host, pci)).toThrow(LaterClaim);
      expect(() => readUsableClaim(host, pci)).toThrow(/later version/);
      expect(findClaims(host, 'c', 'net1')).toEqual([]);
      expect(() => findClaims(host, 'theirs', 'net1')).toThrow(LaterClaim);
      expect(readFileSync(file, 'utf8')).toBe(text);
    }),
  );

  test.each(['', '{', '{}', '[]', JSON.stringify({ ...claim, phase: 'x' })])(
    'that holds %j is unreadable: put aside, never dropped, and in nobody else’s way',
    (text) =>
      onHost((host, file) => {
        writeClaim(host, { ...claim, vf: { ...claim.vf, pci: '0000:01:10.2' } }, false);
        writeFileSync(file, text);
        expect(() => readClaim(host, pci)).toThrow(UnreadableClaim);
        expect(findClaims(host, 'c', 'net1').map(({ vf }) => vf.pci)).toEqual(['0000:01:10.2']);
        const aside = setAside(host, pci);
        expect(readFileSync(aside, 'utf8')).toBe(text);
        expect(listClaims(host)).toEqual(['0000:01:10.2']);
      })(),
  );

  test(
    'that was being written when its ADD died is swept away, but not while somebody holds the lock',
    onHost((host, file) => {
      writeFileSync(`${file}.tmp`, '{');
      {
        using lock = lockVf(host, pci, 0);
        expect(lock).toBeDefined();
        sweepUnfinished(host);
        expect(existsSync(`${file}.tmp`)).toBe(true);
      }
      expect(listClaims(host)).toEqual([]);
      sweepUnfinished(host);
      expect(existsSync(`${file}.tmp`)).toBe(false);
    }),
  );

  test(
    'leaves the time of its end on the lock file',
    onHost((host, file) => {
      writeClaim(host, claim, false);
      using lock = lockVf(host, pci, 0);
      if (!lock) throw new Error('the lock is free');
      utimesSync(lockPath(host, pci), 1, 1);
      const before = Date.now();
      removeClaim(host, pci, lock);
      expect(existsSync(file)).toBe(false);
      const [name = ''] = readdirSync(`${host.stateDir}/pci/vf_lock`);
      expect(name).toBe(`${pci}.lock`);
      expect((modifiedMs(`${host.stateDir}/pci/vf_lock/${name}`) ?? 0) - before).toBeGreaterThan(-1_000);
    }),
  );
});

test('the lock of a VF excludes everybody else until it is given back', () => {
  using tree = temporaryTree({ state: {} });
  mkdirSync(`${tree.root}/state`, { recursive: true });
  const host = hostIn(tree.root);
  {
    using first = lockVf(host, pci, 0);
    expect(first).toBeDefined();
    expect(lockVf(host, pci, 0)).toBeUndefined();
    using other = lockVf(host, '0000:01:10.2', 0);
    expect(other).toBeDefined();
  }
  using again = lockVf(host, pci, 0);
  expect(again).toBeDefined();
});
