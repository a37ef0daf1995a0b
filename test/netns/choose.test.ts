import { expect, test } from 'vitest';
import { refuseBusyPf } from '../../src/attach/choose.ts';
import type { Claim } from '../../src/vf/claim.ts';
import { writeClaim } from '../../src/vf/claims.ts';
import { findPf, wholePf } from '../../src/vf/inventory.ts';
import { TestHost } from '../support/test-host.ts';
import { devices } from '../support/sysfs-tree.ts';

const pfPci = '0000:03:00.0';

/** A host with the PF "pf". */
function stage() {
  const all = new TestHost([
    devices({ [pfPci]: { sriov_totalvfs: '8\n', sriov_numvfs: '2\n', net: { pf: {} } } }),
  ]);
  const { host, netns } = all;
  netns.ip('link', 'add', 'pf', 'type', 'veth', 'peer', 'name', 'peer');
  return {
    netns,
    host,
    [Symbol.dispose]: () => all[Symbol.dispose](),
  };
}

function claimOn(pci: string, ofPf: string): Claim {
  const owner = {
    network: 'net',
    containerId: 'c1',
    ifname: 'net1',
    netns: { path: '', inode: 1 },
    bootId: 'boot',
  };
  const vf = { pci, index: 0, pf: { pci: ofPf } };
  const request = { config: {}, cniArgs: '', cniPath: '' };
  const original = { settings: {} };
  return {
    version: 1,
    phase: 'attached',
    since: '',
    vf,
    owner,
    podIfname: 'net1',
    request,
    asked: {},
    original,
  };
}

test('refuseBusyPf() lets a PF go that nobody uses', async () => {
  using s = stage();
  await refuseBusyPf(s.host, wholePf(findPf(s.host.sys, pfPci)));
});

test('refuseBusyPf() leaves the host the PF that it uses itself', async () => {
  using s = stage();
  s.netns.ip('address', 'add', '192.0.2.1/24', 'dev', 'pf');
  await expect(refuseBusyPf(s.host, wholePf(findPf(s.host.sys, pfPci)))).rejects.toThrow(
    /PF pf .*cannot go into a pod: the host uses it: it has an IP address/,
  );
});

test('refuseBusyPf() leaves the host a PF whose VF a pod has', async () => {
  using s = stage();
  const pf = wholePf(findPf(s.host.sys, pfPci));
  writeClaim(s.host, claimOn('0000:04:02.0', '0000:04:00.0'), false);
  await refuseBusyPf(s.host, pf);
  writeClaim(s.host, claimOn('0000:03:02.0', pfPci), false);
  await expect(refuseBusyPf(s.host, pf)).rejects.toMatchObject({ kind: 'busy' });
});
