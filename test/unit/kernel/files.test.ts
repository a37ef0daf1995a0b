import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { confine, PathRefused, writeFileAtomically } from '../../../src/kernel/files.ts';
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

describe('writeFileAtomically()', () => {
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
