import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { countInstructions } from '../support/callgrind.ts';

const pod = `budget-${process.pid}`;
const env = (command: string) => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: 'c',
  CNI_NETNS: `/run/netns/${pod}`,
  CNI_IFNAME: 'net1',
  CNI_PATH: '/opt/cni/bin',
});
const config = { cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID: '0000:ff:1f.7' };

/**
 * What a start may cost, in millions of instructions: the best so far and a tenth. One stray import breaks it: `performance` alone was 19.
 * docs/performance.md tells where they go; an improvement comes with a smaller number here.
 */
describe('instructions of a start', () => {
  beforeAll(() => execFileSync('ip', ['netns', 'add', pod]));
  afterAll(() => execFileSync('ip', ['netns', 'del', pod]));

  test.each([
    { executable: 'sriov-static', command: 'VERSION', budget: 0.3, answer: { cniVersion: '1.0.0' } },
    { executable: 'sriov-static', command: 'ADD', budget: 2.4, answer: { code: 100 } },
    { executable: 'sriov-static', command: 'DEL', budget: 1.2, answer: undefined },
    { executable: 'sriov', command: 'VERSION', budget: 93, answer: { cniVersion: '1.0.0' } },
    { executable: 'sriov', command: 'ADD', budget: 117, answer: { code: 100 } },
    { executable: 'sriov', command: 'DEL', budget: 109, answer: undefined },
  ])('$executable: $command', { timeout: 300_000 }, async ({ executable, command, budget, answer }) => {
    const { instructions, stdout } = await countInstructions(
      resolve('dist', executable),
      env(command),
      JSON.stringify(config),
    );
    expect(stdout === '' ? undefined : JSON.parse(stdout)).toEqual(
      answer && (expect.objectContaining(answer) as unknown),
    );
    console.log(
      `${executable}, ${command}: ${(instructions / 1e6).toFixed(2)} M instructions of ${budget} M`,
    );
    expect(instructions / 1e6).toBeLessThan(budget);
  });
});
