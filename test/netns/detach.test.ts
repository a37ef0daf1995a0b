import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { detach } from '../../src/attach/detach.ts';
import type { Claim } from '../../src/vf/claim.ts';
import { TestHost } from '../support/test-host.ts';

test('nobody knows the attachment: what its ADD left that died while it wrote the claim is removed', async () => {
  using node = new TestHost([{}], { claims: { '0000:01:10.0.json.tmp': '{' } });
  const attachment = { containerId: 'c', ifname: 'net1', netns: '' };
  expect(await detach(node.host, attachment, { env: {} })).toBe(false);
  expect(readdirSync(`${node.state.root}/claims`)).toEqual([]);
});

test('a bond of which the second claim is half written is undone, and that is removed', async () => {
  const claim: Claim = {
    version: 1,
    phase: 'adding',
    owner: {
      network: 'n',
      containerId: 'c',
      ifname: 'net1',
      netns: { path: '/run/netns/c', inode: 7 },
      bootId: 'before',
    },
    podIfname: 'net1',
    bond: { ifname: 'net1', other: '0000:01:10.2' },
    request: { config: { cniVersion: '1.0.0', name: 'n', type: 'sriov' }, cniArgs: '', cniPath: '' },
    since: '2026-11-25T12:00:00.000Z',
    vf: { pci: '0000:01:10.0', index: 0, pf: { pci: '0000:01:00.0' } },
    asked: {},
    original: { settings: {} },
  };
  const claims = { '0000:01:10.0.json': JSON.stringify(claim), '0000:01:10.2.json.tmp': '{' };
  using node = new TestHost([{}], { claims });
  const attachment = { containerId: 'c', ifname: 'net1', netns: '' };
  expect(await detach(node.host, attachment, { env: {} })).toBe(true);
  expect(readdirSync(`${node.state.root}/claims`)).toEqual([]);
});
