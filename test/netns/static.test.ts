import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { provideSources } from '../../build/engine-sources.ts';
import { allParts } from '../../build/sbom.ts';
import { openToolchain } from '../../build/toolchain.ts';
import { hostArch } from '../../lab/arch.ts';

/** What `make build` makes, and on x86-64 what `make build ARCH=arm64` makes there for another machine. */
const built = [
  { file: 'dist/sriov-static', folder: 'dist/static/host', arch: hostArch },
  { file: 'dist/sriov-static-arm64', folder: 'dist/static/arm64', arch: 'arm64' as const },
].slice(0, process.arch === 'x64' ? 2 : 1);

interface Segment {
  readonly type: string;
  readonly flags: string;
}

function segments(file: string): Segment[] {
  const text = execFileSync('readelf', ['--wide', '--segments', file], { encoding: 'utf8' });
  return [...text.matchAll(/^ {2}(\w+) +0x\S+ 0x\S+ 0x\S+ 0x\S+ 0x\S+ (.{3}) 0x/gm)].map(
    ([, type = '', flags = '']) => ({ type, flags }),
  );
}

describe.each(built)('$file', ({ file, folder, arch }) => {
  test('runs', async () => {
    const toolchain = await openToolchain(arch, await provideSources(arch));
    const [program, ...args] = toolchain.command(file, ['--version']);
    expect(execFileSync(program, args, { encoding: 'utf8' })).toMatch(/^sriov .*QuickJS-ng/);
  });

  test('needs no other file, and no part of it is both writable and executable', () => {
    const all = segments(file);
    expect(all.filter(({ type }) => type === 'LOAD').length).toBeGreaterThan(3);
    expect(all.map(({ type }) => type)).not.toContain('INTERP');
    expect(all.map(({ type }) => type)).not.toContain('DYNAMIC');
    expect(all.filter(({ flags }) => flags.includes('W') && flags.includes('E'))).toEqual([]);
    expect(
      all.filter(({ type }) => type === 'GNU_STACK' || type === 'GNU_RELRO').map(({ flags }) => flags.trim()),
    ).toEqual(['RW', 'R']);
  });

  test('is smaller than 4 MB', () => {
    // On arm64 each of its segments starts at 64 KB, which pages can have there.
    expect(statSync(file).size).toBeLessThan(arch === 'arm64' ? 4.25e6 : 4e6);
  });

  test('has no parser of JavaScript, and notices a smashed stack', () => {
    const names = execFileSync('nm', [`${folder}/second`], { encoding: 'utf8' });
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
    const lines = readFileSync(`${folder}/sriov.js`, 'utf8').split('\n');
    const line = lines.findIndex((text) => /function parseRequest\(/.test(text)) + 1;
    const trace = execFileSync(process.execPath, ['build/trace.ts', `${file}.js.map`], {
      input: `Error\n    at parseRequest (sriov.js:${line}:12)\n`,
      encoding: 'utf8',
    });
    expect(trace).toMatch(/^Error\n {4}at parseRequest \(src\/cni\/request\.ts:\d+:\d+\)\n$/);
  });
});

test('the bill of materials has the engine and the C library, with their licences', async () => {
  const parts = (await allParts()).filter(({ purl }) => purl?.startsWith('pkg:deb/'));
  expect(parts.map(({ name }) => name)).toEqual(['quickjs-ng', 'musl']);
  for (const { version, licenceText } of parts) {
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
    expect(licenceText).toContain('Permission is hereby granted, free of charge');
  }
});
