import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { detach } from '../../src/attach/detach.ts';
import { TestHost } from '../support/test-host.ts';

test('nobody knows the attachment: what its ADD left that died while it wrote the claim is removed', async () => {
  using node = new TestHost([{}], { claims: { '0000:01:10.0.json.tmp': '{' } });
  const attachment = { containerId: 'c', ifname: 'net1', netns: '' };
  expect(await detach(node.host, attachment, { env: {} })).toBe(false);
  expect(readdirSync(`${node.state.root}/claims`)).toEqual([]);
});
