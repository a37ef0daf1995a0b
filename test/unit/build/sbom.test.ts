import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { bill, licences, thirdParties } from '../../../build/sbom.ts';

const parts = thirdParties();

test('the bill of materials names every package whose code is in the bundle', async () => {
  const { metafile } = await build({
    entryPoints: ['src/node.ts'],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    metafile: true,
    write: false,
    logLevel: 'silent',
  });
  const bundled = Object.keys(metafile.inputs).flatMap(
    (path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [],
  );
  expect(bundled).toContain('zod');
  const named = parts.map(({ name }) => name);
  expect([...new Set(bundled)].filter((name) => !named.includes(name))).toEqual([]);
});

test('the bill of materials names the Node that is inside, with its parts', () => {
  const node = parts.find(({ name }) => name === 'node');
  expect(node?.version).toBe(process.versions.node);
  expect(node?.parts).toContainEqual(
    expect.objectContaining({ name: 'openssl', version: process.versions.openssl }),
  );
  expect(node?.parts).toContainEqual(expect.objectContaining({ name: 'v8', version: process.versions.v8 }));
});

test('every package has version, hash and licence, and tools for developing are not named', () => {
  for (const { version, licence, sha512, licenceText } of parts) {
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
    expect(licence).toMatch(/^[A-Z]/);
    expect(sha512).toMatch(/^[0-9a-f]{128}$/);
    expect(licenceText?.length).toBeGreaterThan(500);
  }
  expect(parts.map(({ name }) => name)).not.toContain('vitest');
});

test('the bill is CycloneDX, and its references lead somewhere', () => {
  const { bomFormat, specVersion, components, dependencies } = bill(parts) as {
    bomFormat: string;
    specVersion: string;
    components: { 'bom-ref': string }[];
    dependencies: { ref: string; dependsOn: string[] }[];
  };
  expect({ bomFormat, specVersion }).toEqual({ bomFormat: 'CycloneDX', specVersion: '1.5' });
  expect(dependencies.flatMap(({ dependsOn }) => dependsOn)).toEqual(components.map((c) => c['bom-ref']));
});

test('the licences file has the texts of V8, OpenSSL and each package', () => {
  const text = licences(parts);
  for (const { name, version } of parts) expect(text).toContain(`${name} ${version} (`);
  expect(text).toContain('OpenSSL, located at deps/openssl');
  expect(text).toContain('V8, located at deps/v8');
});
