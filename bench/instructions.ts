import { execFileSync } from 'node:child_process';
import { builtExecutable } from '../lab/engine.ts';
import { countInstructions } from '../test/support/callgrind.ts';
import { call } from './measure.ts';
import { table } from './table.ts';

/** Instructions in user space, by callgrind. */
export async function instructions(): Promise<string> {
  const pod = `bench-${process.pid}`;
  execFileSync('ip', ['netns', 'add', pod]);
  try {
    const config = { type: 'sriov', deviceID: '0000:ff:1f.7' };
    const rows: string[][] = [];
    for (const command of ['VERSION', 'ADD', 'DEL']) {
      const { program, env, stdin } = call(command, builtExecutable, command, pod, config);
      const counted = await countInstructions(program, env, stdin);
      rows.push([command === 'ADD' ? 'ADD, refused' : command, (counted.instructions / 1e6).toFixed(1)]);
    }
    return table(['command', 'million instructions'], rows);
  } finally {
    execFileSync('ip', ['netns', 'del', pod]);
  }
}
