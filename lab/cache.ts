import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { hostArch, type Arch } from './arch.ts';
import { type KernelName, labKernel } from './kernels.ts';
import {
  disks,
  earlyModules,
  host,
  kernelModules,
  kernelPackages,
  kernelSources,
  type Disk,
  type PackageSet,
} from './packages.ts';

/** What the lab starts from, made once and never changed afterwards: a path tells how its content was made. */
export interface LabFiles {
  readonly folder: string;
  /** The guest's processor. */
  readonly arch: Arch;
  readonly kernelName: KernelName;
  /** Folder: `tree` (QEMU and tools, unpacked). */
  readonly host: string;
  /** Folder for the guest's start: `kernel`, `early.cpio`, `modules.erofs`. */
  readonly kernel: string;
  /** Read-only file systems of the guest. */
  readonly disks: Readonly<Record<Disk, string>>;
}

/** What can be fetched on its own. */
export type Part = 'host' | 'kernel' | Disk;

export function cacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'] || `${homedir()}/.cache`;
  return resolve(process.env['SRIOV_LAB_CACHE'] || `${base}/sriov-lab`);
}

/** Where everything of this checkout's lab stands, whether it is there already or not. */
export function labFiles(arch: Arch, kernelName: KernelName): LabFiles {
  const folder = cacheFolder();
  const made = (name: string, ...inputs: unknown[]) => {
    const hash = createHash('sha256').update(JSON.stringify(inputs));
    for (const file of ['apt.ts', 'tree.ts', 'fetch.ts'])
      hash.update(readFileSync(`${import.meta.dirname}/${file}`));
    return `${folder}/${name}-${hash.digest('hex').slice(0, 12)}`;
  };
  const kernelCode = readFileSync(`${import.meta.dirname}/kernel.ts`, 'utf8');
  const kernel = kernelPackages(kernelName);
  const kernelInputs = [kernel, kernelModules(kernelName, arch), earlyModules, kernelCode];
  const disk = (name: Disk) => {
    const set: PackageSet = disks[name];
    if (set.module === undefined) return made(`${name}-${arch}`, set, disks.base);
    return made(`${name}-${arch}-${kernelName}`, set, kernel, ...moduleSource(set.module));
  };
  const names = Object.keys(disks) as Disk[];
  return {
    folder,
    arch,
    kernelName,
    host: made('host', host),
    kernel: made(`kernel-${arch}-${kernelName}`, ...kernelInputs),
    disks: Object.fromEntries(names.map((name) => [name, `${disk(name)}.erofs`])) as Record<Disk, string>,
  };
}

/** What a module is made of. */
function moduleSource(module: string): string[] {
  const source = kernelSources[module];
  const files = source === undefined ? [`guest/${module}.c`, 'module.ts'] : ['module.ts'];
  const texts = files.map((file) => readFileSync(`${import.meta.dirname}/${file}`, 'utf8'));
  return source === undefined ? texts : [...texts, JSON.stringify(source)];
}

/** What of the files is still to be fetched. */
export function missing(files: LabFiles, wanted: readonly Disk[]): readonly Part[] {
  const parts: Part[] = ['host', 'kernel', ...wanted];
  const places = { host: files.host, kernel: files.kernel, ...files.disks };
  return parts.filter((part) => !existsSync(places[part]));
}

/**
 * Makes sure that the files are there. They are fetched by a process of its own that holds the cache's lock (released by
 * the kernel, however that process ends): of two that start at once, one fetches and the other waits and finds all done.
 */
export async function provide(
  wanted: readonly Disk[],
  arch: Arch = hostArch,
  kernelName: KernelName = labKernel,
): Promise<LabFiles> {
  const files = labFiles(arch, kernelName);
  const absent = missing(files, wanted);
  if (absent.length === 0) return files;
  process.stderr.write(
    `lab: ${absent.join(', ')} (${arch}, kernel ${kernelName}) not yet in ${files.folder}: ` +
      'fetching (or waiting for who does)\n',
  );
  mkdirSync(files.folder, { recursive: true });
  const fetch = [
    process.execPath,
    `${import.meta.dirname}/cli.ts`,
    'fetch-locked',
    ...['--arch', arch, '--kernel', kernelName],
    ...wanted.filter((name) => name !== 'base').flatMap((name) => ['--disk', name]),
  ];
  const child = spawn('flock', [`${files.folder}/lock`, ...fetch], { stdio: ['ignore', 2, 2] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0)
    throw new Error(`Cannot fetch the lab's files: ${fetch.slice(1).join(' ')} ended with ${code}`);
  return files;
}
