import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PathRefused } from '../../../src/kernel/files.ts';
import { Log, openLogFile, Phases } from '../../../src/kernel/log.ts';
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

  test('what stands in quotes is JSON, whatever character is in it', async () => {
    const characters = Array.from({ length: 0x300 }, (_, code) => String.fromCharCode(code));
    const lines = await written((fd) => {
      const log = new Log('info', 'text', fd);
      for (const character of characters) log.info('x', { a: `(${character})` });
    });
    expect(lines.map((line) => JSON.parse(/ a=(.*)$/.exec(line)?.[1] ?? '') as string)).toEqual(
      characters.map((character) => `(${character})`),
    );
  });

  test.each(['text', 'json'] as const)(
    '%s: a field of a line goes before one of the context',
    async (format) => {
      const lines = await written((fd) => {
        const log = new Log('info', format, fd, { ifname: 'net1', vf: 'a' });
        log.info('one', { vf: 'b' });
        log.info('two');
      });
      expect(lines.map((line) => /\bvf"?[=:]"[^,]*/.exec(line)?.[0].replace(/^vf"?[=:]|}$/g, ''))).toEqual([
        '"b"',
        '"a"',
      ]);
      expect(lines.map((line) => line.match(/\bvf\b/g)?.length)).toEqual([1, 1]);
    },
  );

  test('what others chose cannot move the cursor, colour, end a line or turn the writing', async () => {
    const evil = '\u001b[2J\u009b31m\u202etxt\u2028\u200b\ud800\u{e0041}\u007f';
    const lines = await written((fd) => {
      new Log('info', 'text', fd).info('x', { pod: evil });
      new Log('info', 'json', fd).info('x', { pod: evil });
    });
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^[ -~]+$/);
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ pod: evil });
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

test('Phases: each from the end of the one before, the same name adds up, and nothing is lost', () => {
  const phases = new Phases();
  const start = performance.now();
  phases.end('start');
  const afterStart = performance.now();
  while (performance.now() - afterStart < 12);
  phases.end('work');
  phases.end('look');
  phases.end('work');
  const all = performance.now() - start;
  const later = Object.fromEntries(Object.entries(phases.ms).slice(1));
  expect(Object.keys(phases.ms)).toEqual(['start', 'work', 'look']);
  expect(later['work']).toBeGreaterThanOrEqual(11.9); // rounded to tenths
  const sum = Object.values(later).reduce((total, ms) => total + ms, 0);
  expect(sum).toBeLessThanOrEqual(all + 0.2);
});

describe('rotation', () => {
  const line = (n: number, format: 'text' | 'json' = 'text') =>
    format === 'json'
      ? `{"time":"t","level":"info","msg":"${n}","cniName":"sriov-cni"}\n`
      : `time="t" level="info" msg="${n}" cniName="sriov-cni"\n`;
  /** Opens a log that may have 6 bytes. */
  const openIn = (root: string, name = 'log') => closeSync(openLogFile(join(root, name), [root], 6));
  const contents = (root: string) =>
    Object.fromEntries(readdirSync(root).map((name) => [name, readFileSync(join(root, name), 'utf8')]));

  test.each(['text', 'json'] as const)(
    '%s: a file of ours that is too big is put aside, and five are kept',
    (format) => {
      using folder = temporaryTree();
      const path = join(folder.root, 'log');
      writeFileSync(path, 'small');
      openIn(folder.root);
      expect(contents(folder.root)).toEqual({ log: 'small' });
      for (let n = 1; n <= 7; n++) {
        writeFileSync(path, line(n, format));
        openIn(folder.root);
      }
      expect(contents(folder.root)).toEqual({
        log: '',
        'log.1': line(7, format),
        'log.2': line(6, format),
        'log.3': line(5, format),
        'log.4': line(4, format),
        'log.5': line(3, format),
      });
    },
  );

  // Whoever may write a network configuration names any file below /var/log, and need not own the node.
  test("other programs' files are never put aside, but written to", () => {
    using folder = temporaryTree();
    const foreign = 'type=DAEMON_START msg=audit(1764000000.000:1): op=start\n' + line(1);
    writeFileSync(join(folder.root, 'audit.log'), foreign);
    const fd = openLogFile(join(folder.root, 'audit.log'), [folder.root], 6);
    new Log('info', 'text', fd).info('ours');
    closeSync(fd);
    expect(readdirSync(folder.root)).toEqual(['audit.log']);
    expect(readFileSync(join(folder.root, 'audit.log'), 'utf8').startsWith(foreign)).toBe(true);
    expect(readFileSync(join(folder.root, 'audit.log'), 'utf8')).toContain('msg="ours"');
  });

  test("a log of ours is not put aside over another program's file", () => {
    using folder = temporaryTree();
    const state = { log: line(2), 'log.1': line(1), 'log.5': 'of somebody else\n' };
    for (const [name, text] of Object.entries(state)) writeFileSync(join(folder.root, name), text);
    openIn(folder.root);
    expect(contents(folder.root)).toEqual(state);
  });

  test('a file that is no text is not written to', () => {
    using folder = temporaryTree();
    writeFileSync(join(folder.root, 'system.journal'), 'LPKSHHRH\0\0\0\0'); // journald's own mark
    expect(() => openIn(folder.root, 'system.journal')).toThrow(PathRefused);
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
