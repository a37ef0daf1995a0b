import { expect, test } from 'vitest';
import { difference, TestNode } from '../support/node.ts';
import { isSoak, seed, seeded } from '../support/random.ts';
import { prepareStorm, storm } from '../support/storm.ts';

const operations = isSoak ? 1000 : 60;

test(`${operations} operations of 60 pods on 28 VFs, 16 at a time: no VF is lost or given twice`, async () => {
  await using node = await TestNode.start({ pfs: 4, vfs: 7, processors: 2 });
  await prepareStorm(node);
  const pristine = await node.state();
  const names = Array.from({ length: 60 }, (_, i) => `pod${i}`);
  await node.pods(...names);
  const figures = await storm(node, seeded(seed), { podCount: names.length, operations, atOnce: 16 });
  console.log(figures);
  expect(figures.looks).toBeGreaterThan(0);
  expect(difference(pristine, await node.state())).toBe('');
}, 3_600_000);
