/**
 * Writes what the executables are made of: dist/sriov.cdx.json (CycloneDX) and dist/third-party-licences.txt. Packages come from
 * package-lock.json, Node's bundled parts from the Node that goes into the executable, which is the one that runs this, the static
 * executable's engine and C library from Debian's packages.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { hostArch } from '../lab/arch.ts';
import { provideSources, quickjs } from './engine-sources.ts';

/** A part of the executable. */
export interface Part {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  /** package URL */
  readonly purl?: string;
  /** Hashes of the package, in hex */
  readonly sha512?: string;
  readonly sha256?: string;
  /** Parts that it contains in turn. */
  readonly parts?: readonly Part[];
  /** Full text of its licence. */
  readonly licenceText?: string;
}

interface LockedPackage {
  readonly version: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly os?: string | string[];
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}

function licenceText(folder: string): string {
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
  if (file === undefined) throw new Error(`Cannot find the licence of ${folder}`);
  return readFileSync(`${folder}/${file}`, 'utf8').trim();
}

/** Versions that `process.versions` tells of, without interface numbers and data. */
const notSoftware = ['node', 'modules', 'napi', 'cldr', 'tz', 'unicode'];

function nodeParts(): Part[] {
  return Object.entries(process.versions)
    .filter(([name]) => !notSoftware.includes(name))
    .map(([name, version]) => ({ name, version: version ?? '', licence: "see Node's licence" }));
}

/** Everything in the executables that is not ours. */
export async function allParts(): Promise<Part[]> {
  return [...thirdParties(), ...(await engineParts())];
}

/** What the static executable contains beside packages: the engine and the C library, as Debian has them. */
async function engineParts(): Promise<Part[]> {
  const { quickjs: engine, library } = await provideSources(hostArch);
  const root = engine.replace(/\/usr\/src\/.*/, '');
  const copyright = (folder: string, name: string) =>
    readFileSync(`${folder}/usr/share/doc/${name}/copyright`, 'utf8').trim();
  const [, muslVersion = ''] = /^musl-dev_([^_]+)_/m.exec(readFileSync(`${library}/packages`, 'utf8')) ?? [];
  return [
    {
      name: quickjs.name,
      version: quickjs.version,
      licence: 'MIT',
      purl: `pkg:deb/debian/${quickjs.package}@${quickjs.revision}`,
      sha256: quickjs.sha256,
      licenceText: copyright(root, quickjs.package),
    },
    {
      name: 'musl',
      version: muslVersion,
      licence: 'MIT',
      purl: `pkg:deb/debian/musl-dev@${muslVersion}`,
      licenceText: copyright(library, 'musl-dev'),
    },
  ];
}

/** What both executables have of npm's packages, and the Node of one. */
export function thirdParties(): Part[] {
  const { packages } = readJson<{ packages: Record<string, LockedPackage> }>('package-lock.json');
  const base = `node-linux-${process.arch}`;
  return Object.entries(packages).flatMap(([path, { version, license, integrity, dev, os }]) => {
    const name = path.replace(/^.*node_modules\//, '');
    // Packages for one system are the Nodes, of which one is inside; types leave no code.
    const isForeignNode = os !== undefined && name !== base;
    if (path === '' || dev || isForeignNode || name.startsWith('@types/')) return [];
    const isNode = name === base;
    return [
      {
        name: isNode ? 'node' : name,
        version,
        licence: license ?? '',
        purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
        ...(integrity && {
          sha512: Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex'),
        }),
        ...(isNode && { parts: nodeParts() }),
        licenceText: licenceText(path),
      },
    ];
  });
}

/** An SPDX identifier where it is one, else words. */
function licenceOf(licence: string) {
  return /^[A-Za-z0-9.+-]+$/.test(licence) ? { license: { id: licence } } : { license: { name: licence } };
}

function toComponent({ name, version, licence, purl, sha512, sha256, parts }: Part): object {
  return {
    type: name === 'node' ? 'platform' : 'library',
    name,
    version,
    ...(purl && { 'bom-ref': purl, purl }),
    ...(sha512 && { hashes: [{ alg: 'SHA-512', content: sha512 }] }),
    ...(sha256 && { hashes: [{ alg: 'SHA-256', content: sha256 }] }),
    licenses: [licenceOf(licence)],
    ...(parts && { components: parts.map(toComponent) }),
  };
}

/** The bill of materials in the form of CycloneDX 1.5. */
export function bill(parts: readonly Part[]): object {
  const { name, version, license } = readJson<Record<'name' | 'version' | 'license', string>>('package.json');
  const ours = { type: 'application', 'bom-ref': name, name, version, licenses: [licenceOf(license)] };
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component: ours },
    components: parts.map(toComponent),
    dependencies: [{ ref: name, dependsOn: parts.flatMap(({ purl }) => purl ?? []) }],
  };
}

/** The licence texts of all parts, one after the other. */
export function licences(parts: readonly Part[]): string {
  const line = '='.repeat(80);
  const texts = parts.map(
    ({ name, version, licence, licenceText = '' }) =>
      `${line}\n${name} ${version} (${licence})\n${line}\n\n${licenceText}\n`,
  );
  return `The executables "sriov" and "sriov-static" contain the following software of others. QuickJS-ng and musl are in the static one only,
Node.js and the netlink package in the other.\n\n${texts.join('\n')}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const parts = await allParts();
  mkdirSync('dist', { recursive: true });
  writeFileSync('dist/sriov.cdx.json', `${JSON.stringify(bill(parts), undefined, 2)}\n`);
  writeFileSync('dist/third-party-licences.txt', licences(parts));
}
