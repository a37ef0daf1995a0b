import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostArch } from '../../lab/arch.ts';
import { provideSources } from '../../build/engine-sources.ts';
import { makeExecutable } from '../../build/executable.ts';
import { probe } from '../support/probe.ts';

const folder = mkdtempSync(`${tmpdir()}/engine-`);
let executable: string;

/** Makes test/support/probe-entry.ts an executable. */
async function makeProbe(workFolder: string): Promise<string> {
  const script = `${workFolder}.js`;
  await build({
    entryPoints: ['test/support/probe-entry.ts'],
    outfile: script,
    bundle: true,
    format: 'iife',
    globalName: 'entry',
    target: 'es2023',
  });
  return makeExecutable({
    arch: hostArch,
    script,
    addon: 'test/support/probe-addon.c',
    workFolder,
  });
}

function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
) {
  const [file, ...words] = [...prefix, executable, ...args] as [string, ...string[]];
  const { status, signal, stdout, stderr } = spawnSync(file, words, { env, encoding: 'utf8' });
  return { status, signal, stdout, stderr };
}

const silent = { signal: null, stderr: '' };

beforeAll(async () => {
  executable = await makeProbe(`${folder}/first`);
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

test('values go through Node-API as in Node', () => {
  const file = `${folder}/probe.node`;
  const include = 'node_modules/node-api-headers/include';
  execFileSync('cc', ['-shared', '-fPIC', '-I', include, 'test/support/probe-addon.c', '-o', file]);
  const addon = createRequire(import.meta.url)(file) as Parameters<typeof probe>[0];
  const { stdout, ...rest } = run(['probe']);
  expect(rest).toEqual({ ...silent, status: 0 });
  expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(probe(addon))));
});

test('every start has its own arguments, environment, clock and random numbers', () => {
  const before = Date.now();
  const env = { A: '1', __proto__x: 'y', EMPTY: '', UMLAUT: 'ä=ö' };
  const [first, second] = [run(['environment', 'one', ''], env), run(['environment'])].map(
    ({ stdout }) => JSON.parse(stdout) as { args: string[]; env: object; random: number; now: number },
  );
  expect(first).toMatchObject({ args: ['environment', 'one', ''], env });
  expect(second?.env).toEqual({});
  expect(second?.random).not.toBe(first?.random);
  expect(first?.now).toBeGreaterThanOrEqual(before);
  expect(second?.now).toBeLessThanOrEqual(Date.now());
});

test.each([
  ['timers', { status: 0, stdout: '1,2' }],
  ['late', { status: 0, stdout: 'went on' }],
  ['parser', { status: 0, stdout: 'TypeError' }],
])('%s', (program, outcome) => {
  expect(run([program])).toEqual({ ...silent, ...outcome });
});

test('the exit code is what main returns', () => {
  expect(run(['exit', '7'])).toEqual({ ...silent, status: 7, stdout: '' });
});

test.each([
  ['throw', /^engine: uncaught TypeError: thrown on purpose\n +at throw \(first\.js:\d+:\d+\)/],
  ['reject', /^engine: uncaught Error: rejected on purpose\n +at /],
  ['timer', /^engine: uncaught RangeError: Maximum call stack size exceeded\n +at recurse \(/],
  ['deep', /^engine: uncaught RangeError: Maximum call stack size exceeded\n +at recurse \(/],
])('a bug ends with its stack: %s', (program, message) => {
  const { stderr, ...rest } = run([program]);
  expect(rest).toEqual({ status: 1, signal: null, stdout: '' });
  expect(stderr).toMatch(message);
});

test('nothing left to do is no success', () => {
  const stderr = 'engine: nothing is left to do, and there is no answer\n';
  expect(run(['stuck'])).toEqual({ status: 13, signal: null, stdout: '', stderr });
});

test.each([
  ['its own limit', 'true'],
  ['the limit of whoever starts it', 'ulimit -v 100000'],
])('memory ends at %s', { timeout: 120_000 }, (_, limit) => {
  const outcome = run(['memory'], {}, ['sh', '-c', `${limit}; exec "$@"`, 'sh']);
  expect(outcome).toMatchObject({ status: 1, signal: null, stdout: '' });
  expect(outcome.stderr).toMatch(/^engine: uncaught .*out of memory/);
});

test('a small stack overflows in JavaScript, not in the process', () => {
  expect(run(['deep'], {}, ['sh', '-c', 'ulimit -s 256; exec "$@"', 'sh'])).toMatchObject({
    status: 1,
    signal: null,
    stderr: expect.stringContaining('Maximum call stack size exceeded') as string,
  });
});

test.each(['0<&-', '1>&-', '2>&-', '0<&- 1>&- 2>&-'])('standard streams may be closed: %s', (closed) => {
  const { status, stdout } = run(['streams'], {}, ['sh', '-c', `exec "$@" ${closed}`, 'sh']);
  expect(status).toBe(0);
  // A file that is opened later must not become one of them.
  if (!closed.includes('1>')) expect(stdout).toBe('3');
});

test('signals that a caller ignores or blocks', () => {
  const inherited = ['env', '--ignore-signal=CHLD,ALRM', '--block-signal=ALRM,TERM'];
  expect(run(['signals'], {}, inherited)).toEqual({
    ...silent,
    status: 0,
    stdout: 'ignored PIPE XFSZ, blocked',
  });
});

test(
  'the same sources make the same bytes wherever that is, and nothing of the machine is in them',
  { timeout: 120_000 },
  async () => {
    const again = await makeProbe(`${folder}/elsewhere/first`);
    const bytes = readFileSync(executable);
    expect(bytes.equals(readFileSync(again))).toBe(true);
    const { objects } = await provideSources(hostArch);
    for (const path of [folder, process.cwd(), dirname(objects)]) expect(bytes.includes(path)).toBe(false);
  },
);
