import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { unnamedFile } from '../../../src/kernel/addon.ts';
import {
  checkWritable,
  confine,
  confined,
  makeFolder,
  PathRefused,
  writeFileAtomically,
} from '../../../src/kernel/files.ts';
import { link, temporaryTree } from '../../support/sysfs-tree.ts';

describe('confine() keeps a path of a configuration below its roots', () => {
  test.each([
    ['ROOT/info/x', 'info/x'],
    ['ROOT/info/a/b/x', 'info/a/b/x'],
    ['ROOT/info/./x', 'info/x'],
    ['ROOT/info//x', 'info/x'],
    ['ROOT/info/old', 'info/old'],
  ])('%s is allowed', (path, place) => {
    using tree = temporaryTree({ info: { old: 'text' } });
    expect(confine(path.replace('ROOT', tree.root), [`${tree.root}/info`])).toBe(`${tree.root}/${place}`);
  });

  test.each([
    '/etc/passwd',
    'ROOT/info',
    'ROOT/info/',
    'ROOT/information/x',
    'ROOT/info/../secret/x',
    'ROOT/info/a/../../secret/x',
    'info/x',
    'ROOT/info/folder',
    'ROOT/info/old/x',
    'ROOT/info/link',
    'ROOT/info/linked/x',
    'ROOT/info/dangling',
  ])('%s is refused, and nothing is made', (path) => {
    using tree = temporaryTree({
      info: {
        old: 'text',
        folder: {},
        link: link('secret/x'),
        linked: link('secret'),
        dangling: link('secret/new'),
      },
      secret: { x: 'secret' },
    });
    expect(() => confine(path.replace('ROOT', tree.root), [`${tree.root}/info`])).toThrow(PathRefused);
    expect(readdirSync(`${tree.root}/secret`)).toEqual(['x']);
  });

  test('a root that is itself behind a link, as /var/run is, is followed', () => {
    using tree = temporaryTree({ run: {} });
    symlinkSync('run', `${tree.root}/varrun`);
    expect(confine(`${tree.root}/varrun/x`, [`${tree.root}/varrun`])).toBe(`${tree.root}/run/x`);
  });
});

describe('confined()', () => {
  test('leads into the folder that was looked at, whatever is put into its place meanwhile', () => {
    using tree = temporaryTree({ log: { app: {} }, secret: { 'x.log': 'secret' } });
    confined(`${tree.root}/log/app/x.log`, [`${tree.root}/log`], (place) => {
      renameSync(`${tree.root}/log/app`, `${tree.root}/log/moved`);
      symlinkSync('../secret', `${tree.root}/log/app`);
      writeFileSync(place, 'ours');
    });
    expect(readFileSync(`${tree.root}/secret/x.log`, 'utf8')).toBe('secret');
    expect(readFileSync(`${tree.root}/log/moved/x.log`, 'utf8')).toBe('ours');
  });

  test('its errors name the path as it was given, not the way there', () => {
    using tree = temporaryTree({ log: { folder: {} } });
    const path = `${tree.root}/log/folder/x`;
    expect(() =>
      confined(path, [`${tree.root}/log`], (place) => writeFileAtomically(`${place}/y`, '', false)),
    ).toThrow(/^Cannot open \S+\/log\/folder\/x: ENOENT/);
  });

  test('opens no descriptor that it does not close', () => {
    using tree = temporaryTree({ log: { file: '', link: link('file') } });
    const open = () => readdirSync('/proc/self/fd').length;
    const before = open();
    for (const name of ['new/deep/x', 'file', 'link', 'file/x', '../x']) {
      try {
        confine(`${tree.root}/log/${name}`, [`${tree.root}/log`]);
      } catch (error) {
        expect(error).toBeInstanceOf(PathRefused);
      }
    }
    expect(open()).toBe(before);
  });
});

test('checkWritable() is not stopped by what a run that was killed left, and leaves nothing', () => {
  using tree = temporaryTree({ '.probe': 'old' });
  checkWritable(tree.root);
  checkWritable(`${tree.root}/new/deep`);
  expect(readdirSync(tree.root)).toEqual(['new']);
  expect(() => checkWritable('/proc/no')).toThrow('Cannot make /proc/no: ENOENT');
});

test('makeFolder() makes what is missing, and is content with what is there', () => {
  using tree = temporaryTree({});
  makeFolder(`${tree.root}/a/b/c`);
  makeFolder(`${tree.root}/a/b/c`);
  expect(statSync(`${tree.root}/a/b/c`).mode & 0o777).toBe(0o700);
});

// asm-generic/fcntl.h: __O_TMPFILE 020000000 | O_DIRECTORY; O_DIRECTORY is 0200000, on arm64 040000 (arch/arm64/include/uapi/asm/fcntl.h)
test.each([
  ['x86-64', 0o200000, 0o20200000],
  ['arm64', 0o40000, 0o20040000],
])('a file without a name is asked for in the words of %s', (_, directory, flag) => {
  expect(unnamedFile(directory)).toBe(flag);
});

describe('writeFileAtomically()', () => {
  test.each([
    [false, ['fdatasync', 'rename']],
    [true, ['fdatasync', 'rename', 'fsync']],
  ])('durable %s: the data is on the disk before its name is: %j', (durable, order) => {
    using tree = temporaryTree({ claim: 'old' });
    const script = `import { writeFileAtomically } from ${JSON.stringify(resolve('src/kernel/files.ts'))};
      writeFileAtomically(${JSON.stringify(`${tree.root}/claim`)}, 'new', ${durable});`;
    const node = [process.execPath, '--input-type=module', '-e', script];
    const { stderr } = spawnSync(
      'strace',
      ['-e', 'trace=fsync,fdatasync,rename,renameat,renameat2', ...node],
      { encoding: 'utf8' },
    );
    expect([...stderr.matchAll(/^(\w+?)(?:at2?)?\(/gm)].map(([, call]) => call)).toEqual(order);
  });

  test('gives the file its mode, whatever the umask and whatever was left', () => {
    using tree = temporaryTree({ 'b.tmp': 'left' });
    chmodSync(`${tree.root}/b.tmp`, 0o600);
    const umask = process.umask(0o077);
    try {
      for (const name of ['a', 'b']) {
        writeFileAtomically(`${tree.root}/${name}`, 'x', false, 0o444);
        expect(statSync(`${tree.root}/${name}`).mode & 0o777).toBe(0o444);
      }
      expect(process.umask()).toBe(0o077);
    } finally {
      process.umask(umask);
    }
  });

  test('replaces the file and leaves nothing beside it', () => {
    using tree = temporaryTree({ claim: 'old' });
    writeFileAtomically(`${tree.root}/claim`, 'new', true);
    expect(readFileSync(`${tree.root}/claim`, 'utf8')).toBe('new');
    expect(readdirSync(tree.root)).toEqual(['claim']);
  });

  test('writes over what a writer that died left', () => {
    using tree = temporaryTree({ 'claim.tmp': 'a longer text than the new one' });
    writeFileAtomically(`${tree.root}/claim`, 'new', false);
    expect(readFileSync(`${tree.root}/claim`, 'utf8')).toBe('new');
  });

  test('does not follow a link that stands where it writes', () => {
    using tree = temporaryTree({});
    mkdirSync(`${tree.root}/secret`);
    writeFileSync(`${tree.root}/secret/x`, 'secret');
    symlinkSync('secret/x', `${tree.root}/claim.tmp`);
    expect(() => writeFileAtomically(`${tree.root}/claim`, 'new', false)).toThrow('ELOOP');
    expect(readFileSync(`${tree.root}/secret/x`, 'utf8')).toBe('secret');
  });
});
