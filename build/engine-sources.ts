/**
 * Fetches what the static executable is built from, as the lab's packages are fetched: from the machine's own Debian mirror, into the
 * lab's cache. Nothing is installed.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { openApt } from '../lab/apt.ts';
import { debian, type Arch } from '../lab/arch.ts';
import { cacheFolder } from '../lab/cache.ts';
import { unpack } from '../lab/tree.ts';

const execute = promisify(execFile);

/**
 * The engine. A newer one comes in by its version and checksum here, and then by all tests: the snapshot depends on the engine's inside.
 * Debian keeps one version per suite; of an older one the mirror knows nothing any more.
 */
export const quickjs = {
  name: 'quickjs-ng',
  package: 'qjs-src',
  version: '0.17.0',
  revision: '0.17.0-1',
  sha256: '04631979bdadaccffd76c1cb0aff5d07389aa889a90b6a902eba858a3a3b3988',
  suites: ['forky', 'sid'],
} as const;

interface Set {
  /** Unpacked are also its licences, and the names of its packages in a file `packages`. */
  readonly isLinkedIn: boolean;
  readonly release: string;
  readonly architecture: string;
  readonly packages: readonly string[];
  readonly sha256?: string;
}

/** The C library and the kernel's headers. */
const library = (arch: Arch): Set => ({
  isLinkedIn: true,
  release: 'trixie',
  architecture: debian[arch].name,
  packages: ['musl-dev', 'linux-libc-dev'],
});

/** For an arm64 executable on x86-64: the compiler with those of its libraries that need not fit the machine's C library, and what runs
 * the result. */
const crossTools: Set = {
  isLinkedIn: false,
  release: 'bookworm',
  architecture: 'amd64',
  packages: [
    ...['gcc-12', 'cpp-12', 'binutils'].map((name) => `${name}-aarch64-linux-gnu`),
    ...['libgcc-12-dev-arm64-cross', 'libmpc3', 'libmpfr6', 'libgmp10', 'libisl23', 'libjansson4'],
    'qemu-user-static',
  ],
};

/** Unpacks the packages into a folder of the cache that is named by what is in it. */
async function provide(name: string, set: Set): Promise<string> {
  const folder = cacheFolder();
  const key = createHash('sha256').update(JSON.stringify(set)).digest('hex').slice(0, 12);
  const place = `${folder}/${name}-${key}`;
  if (existsSync(place)) return place;
  const temporary = `${folder}/tmp-${name}-${process.pid}`;
  try {
    console.error(`build: fetching ${name} of Debian's ${set.release}`);
    const apt = await openApt(`${temporary}/apt`, set.release, set.architecture);
    const archives = await apt.download(set.packages);
    const debs = readdirSync(archives).filter((file) => file.endsWith('.deb'));
    if (set.sha256 !== undefined) checkSum(`${archives}/${debs[0] ?? ''}`, set.sha256);
    const tree = `${temporary}/tree`;
    mkdirSync(tree);
    await unpack(
      debs.map((file) => `${archives}/${file}`),
      tree,
    );
    if (set.isLinkedIn) await unpackLicences(archives, debs, tree);
    renameSync(tree, place);
  } catch (error) {
    if (!existsSync(place)) throw error; // else somebody was faster
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return place;
}

async function unpackLicences(archives: string, debs: readonly string[], tree: string): Promise<void> {
  const script =
    'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar --extract --directory "$2" --wildcards "./usr/share/doc/*/copyright"';
  for (const deb of debs) await execute('bash', ['-c', script, 'unpack', `${archives}/${deb}`, tree]);
  writeFileSync(`${tree}/packages`, debs.join('\n'));
}

function checkSum(file: string, expected: string): void {
  const sum = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (sum !== expected)
    throw new Error(`${file} is not what it should be: its SHA-256 is ${sum}, not ${expected}`);
}

async function provideQuickjs(): Promise<string> {
  const { package: name, revision, sha256, suites } = quickjs;
  const failures: string[] = [];
  for (const release of suites) {
    try {
      const set = {
        isLinkedIn: true,
        release,
        architecture: 'amd64',
        packages: [`${name}=${revision}`],
        sha256,
      };
      return `${await provide('quickjs', set)}/usr/src/quickjs-ng`;
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  throw new Error(
    `Cannot fetch ${name} ${revision} (has Debian a newer one? see build/engine-sources.ts):\n${failures.join('\n')}`,
  );
}

export interface Sources {
  /** Folder of the engine's C files. */
  readonly quickjs: string;
  /** Folder that has musl and the kernel's headers as Debian installs them. */
  readonly library: string;
  /** Folder of the cross compiler; undefined where the machine's own does. */
  readonly crossTools: string | undefined;
  /** Folder for what is compiled of all this. */
  readonly objects: string;
}

export async function provideSources(arch: Arch): Promise<Sources> {
  const isCross = arch !== process.arch;
  if (isCross && process.arch !== 'x64') throw new Error(`Cannot build for ${arch} on ${process.arch}`);
  const folder = cacheFolder();
  mkdirSync(`${folder}/objects`, { recursive: true });
  return {
    quickjs: await provideQuickjs(),
    library: await provide(`musl-${arch}`, library(arch)),
    crossTools: isCross ? await provide('cross', crossTools) : undefined,
    objects: `${folder}/objects`,
  };
}
