import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readOffset } from '../../build/executable.ts';

const file = 'dist/sriov-static';
const pod = `heap-${process.pid}`;
const folder = mkdtempSync(`${tmpdir()}/heap-`);
const spoilt = `${folder}/sriov`;

/** Where the executable has its heap (src/engine/arena.ld), and how much of it there is and a start reads (struct arena_root). */
function heap(bytes: Buffer): { start: number; used: number; read: number } {
  const text = execFileSync('readelf', ['--wide', '--segments', file], { encoding: 'utf8' });
  const [, offset] = /^ {2}LOAD +(0x\S+) 0x0*10000000 /m.exec(text) ?? [];
  const start = Number(offset);
  const number = (at: number) => Number(bytes.readBigUInt64LE(start + at));
  return { start, used: number(0), read: number(readOffset) };
}

beforeAll(() => {
  execFileSync('ip', ['netns', 'add', pod]);
  const bytes = readFileSync(file);
  const { start, used, read } = heap(bytes);
  // Not a test of nothing: the half of the file.
  expect(used - read).toBeGreaterThan(bytes.length / 3);
  writeFileSync(spoilt, bytes.fill(0xff, start + read, start + used), { mode: 0o755 });
});
afterAll(() => {
  execFileSync('ip', ['netns', 'del', pod]);
  rmSync(folder, { recursive: true });
});

/** Names that no rehearsal knew: each is looked for among all that the heap has. */
const others = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`NAME_${i}`, `${i}`]));

/**
 * After a reboot, or when memory was short, the kernel has nothing of the file: the disk is as slow as the part of it is large that a
 * start reads. So what it does not read is at the end, and may be anything.
 */
test.each(['VERSION', 'ADD', 'DEL'])('%s needs nothing from the end of the heap', (command) => {
  const [undisturbed, disturbed] = [file, spoilt].map((program) => {
    const { status, stdout, stderr } = spawnSync(program, [], {
      env: {
        ...others,
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c',
        CNI_NETNS: `/run/netns/${pod}`,
        CNI_IFNAME: 'net1',
        CNI_PATH: '/opt/cni/bin',
      },
      input: JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID: '0000:ff:1f.7' }),
      encoding: 'utf8',
    });
    return { status, stdout, messages: stderr.match(/msg="[^"]*"/g) };
  });
  expect(undisturbed?.status).toBe(command === 'ADD' ? 1 : 0);
  expect(disturbed).toEqual(undisturbed);
});
