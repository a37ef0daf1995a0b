import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Log, openRotated, Phases } from '../../../src/kernel/log.ts';
import { temporaryTree } from '../../support/sysfs-tree.ts';

function written(write: (fd: number) => Promise<void> | void): Promise<string[]> {
  return (async () => {
    using folder = temporaryTree();
    const path = join(folder.root, 'log');
    const fd = openSync(path, 'w');
    await write(fd);
    closeSync(fd);
    return readFileSync(path, 'utf8').trimEnd().split('\n');
  })();
}

describe('Log', () => {
  test('a change is one line with its context and duration', async () => {
    const lines = await written(async (fd) => {
      const log = new Log('info', 'json', fd, { containerID: 'c', ifname: 'net1' });
      const result = await log.change('moved', { vf: '0000:01:10.0', absent: undefined }, () => 'result');
      expect(result).toBe('result');
    });
    expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        level: 'info',
        msg: 'moved',
        cniName: 'sriov-cni',
        containerID: 'c',
        ifname: 'net1',
        vf: '0000:01:10.0',
        ms: expect.any(Number) as number,
      },
    ]);
  });

  test('a change that fails is no line: its caller reports it', async () => {
    const lines = await written(async (fd) => {
      const log = new Log('debug', 'text', fd);
      await expect(log.change('moved', {}, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    });
    expect(lines).toEqual(['']);
  });

  test('text is key="value", on one line whatever a value holds', async () => {
    const lines = await written((fd) => {
      new Log('info', 'text', fd).about({ containerID: 'x' }).warning('a "quoted"\nline', { ms: 1.5 });
    });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(
      /^time="[^"]+" level="warning" msg="a \\"quoted\\"\\nline" cniName="sriov-cni" containerID="x" ms="1.5"$/,
    );
  });

  test.each([
    ['panic', []],
    ['error', ['e']],
    ['info', ['e', 'w', 'i']],
    ['debug', ['e', 'w', 'i', 'd']],
  ] as const)('level %s', async (level, expected) => {
    const lines = await written((fd) => {
      const log = new Log(level, 'json', fd);
      log.error('e');
      log.warning('w');
      log.info('i');
      log.debug('d');
    });
    const messages = lines.filter(Boolean).map((line) => (JSON.parse(line) as { msg: string }).msg);
    expect(messages).toEqual(expected);
  });
});

test('Phases: each from the end of the one before, the same name adds up', () => {
  const start = performance.now();
  const phases = new Phases();
  phases.end('start');
  while (performance.now() - start < 12);
  phases.end('work');
  phases.end('look');
  phases.end('work');
  expect(Object.keys(phases.ms)).toEqual(['start', 'work', 'look']);
  expect(phases.ms['work']).toBeGreaterThan(9);
  expect(phases.ms['look']).toBeLessThan(9);
});

describe('rotation', () => {
  test('only a file that is too big is put aside, and five are kept', () => {
    using folder = temporaryTree();
    const path = join(folder.root, 'log');
    const contents = () =>
      Object.fromEntries(
        readdirSync(folder.root).map((name) => [name, readFileSync(join(folder.root, name), 'utf8')]),
      );
    writeFileSync(path, 'small');
    closeSync(openRotated(path, 6));
    expect(contents()).toEqual({ log: 'small' });
    for (let n = 1; n <= 7; n++) {
      writeFileSync(path, `full ${n}`);
      closeSync(openRotated(path, 6));
    }
    expect(contents()).toEqual({
      log: '',
      'log.1': 'full 7',
      'log.2': 'full 6',
      'log.3': 'full 5',
      'log.4': 'full 4',
      'log.5': 'full 3',
    });
  });

  test('no line is lost or doubled with many processes at once', async () => {
    using folder = temporaryTree();
    const [path, processes, lines, limit] = [join(folder.root, 'log'), 6, 150, 20_000];
    const writers = Array.from({ length: processes }, (_, i) =>
      spawn(process.execPath, ['test/support/log-writer.ts', path, `${limit}`, `w${i}`, `${lines}`], {
        stdio: ['ignore', 'ignore', 'inherit'],
      }),
    );
    const codes = await Promise.all(writers.map(async (writer) => (await once(writer, 'exit'))[0] as number));
    expect(codes).toEqual(writers.map(() => 0));
    const files = readdirSync(folder.root);
    const seen = files.flatMap((name) =>
      readFileSync(join(folder.root, name), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    );
    expect(files.length).toBeGreaterThan(3);
    for (const name of files) {
      const { size } = statSync(join(folder.root, name));
      // Who comes while another process is renaming does not wait for it, and writes on.
      expect(size).toBeLessThan(limit * 2);
      if (name !== 'log') expect(size).toBeGreaterThanOrEqual(limit);
    }
    expect(seen).toHaveLength(processes * lines);
    expect(new Set(seen).size).toBe(processes * lines);
  }, 30_000);
});
