import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const file = 'dist/sriov-static';
const readelf = (...options: string[]) =>
  execFileSync('readelf', ['--wide', ...options, file], { encoding: 'utf8' });

interface Segment {
  readonly type: string;
  readonly flags: string;
}

function segments(): Segment[] {
  return [...readelf('--segments').matchAll(/^ {2}(\w+) +0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ (.{3}) 0x/gm)].map(
    ([, type = '', flags = '']) => ({ type, flags }),
  );
}

describe('the static executable', () => {
  test('needs no other file, and no part of it is both writable and executable', () => {
    const all = segments();
    expect(all.filter(({ type }) => type === 'LOAD').length).toBeGreaterThan(3);
    expect(all.map(({ type }) => type)).not.toContain('INTERP');
    expect(all.map(({ type }) => type)).not.toContain('DYNAMIC');
    expect(all.filter(({ flags }) => flags.includes('W') && flags.includes('E'))).toEqual([]);
    expect(
      all.filter(({ type }) => type === 'GNU_STACK' || type === 'GNU_RELRO').map(({ flags }) => flags.trim()),
    ).toEqual(['RW', 'R']);
  });

  test('is smaller than 4 MB', () => {
    expect(statSync(file).size).toBeLessThan(4e6);
  });

  test('has no parser of JavaScript, and notices a smashed stack', () => {
    const names = execFileSync('nm', [`dist/static/${process.arch}/second`], { encoding: 'utf8' });
    expect(names).toMatch(/ JS_CallInternal$/m);
    expect(names).toMatch(/ __stack_chk_fail$/m);
    expect(names).not.toMatch(/ (__JS_EvalInternal|js_parse_(?!error)\w+|JS_Eval)$/m);
  });

  test('holds nothing of the machine that built it', () => {
    const bytes = readFileSync(file);
    const values = Object.entries(process.env).filter(([, value]) => (value?.length ?? 0) > 11);
    expect(values.length).toBeGreaterThan(0);
    const found = [...values, ['folder', process.cwd()]].filter(
      ([, value]) => bytes.includes(value ?? '') && !['/usr/sbin:/usr/bin:/sbin:/bin'].includes(value ?? ''),
    );
    expect(found).toEqual([]);
  });

  test('comes with the map that leads from a stack trace to the sources', () => {
    const { sources, mappings } = JSON.parse(readFileSync(`${file}.js.map`, 'utf8')) as {
      sources: string[];
      mappings: string;
    };
    expect(sources.some((source) => source.endsWith('src/main.ts'))).toBe(true);
    expect(mappings.length).toBeGreaterThan(1000);
  });
});
