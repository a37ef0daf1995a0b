import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { openApt, type Apt } from './apt.ts';
import { debian, hostArch, type Arch } from './arch.ts';
import { labFiles, missing, type LabFiles } from './cache.ts';
import { packImage } from './image.ts';
import { earlyArchive, unpackKernel } from './kernel.ts';
import { buildModule, kernelRelease } from './module.ts';
import { type KernelName, kernels } from './kernels.ts';
import { disks, host, kernelModules, kernelPackages, type Disk, type PackageSet } from './packages.ts';
import { settle, unpack } from './tree.ts';

const start = Date.now();

function progress(message: string): void {
  process.stderr.write(`lab: [${((Date.now() - start) / 1000).toFixed(1).padStart(5)} s] ${message}\n`);
}

/**
 * Fetches and builds what is missing of the wanted files. Each is made in a temporary folder and renamed when it is
 * complete. The caller holds the cache's lock.
 */
export async function fetchMissing(
  wanted: readonly Disk[],
  arch: Arch,
  kernelName: KernelName,
): Promise<void> {
  if (process.arch !== 'x64')
    throw new Error(`The lab runs on x86-64 machines only; this one is ${process.arch}`);
  const files = labFiles(arch, kernelName);
  const leftovers = readdirSync(files.folder).filter((name) => name.startsWith('tmp-'));
  for (const name of leftovers) rmSync(`${files.folder}/${name}`, { recursive: true });
  const temporary = `${files.folder}/tmp-${process.pid}`;
  try {
    for (const name of missing(files, wanted)) {
      mkdirSync(temporary);
      if (name === 'host') await makeHost(files, temporary);
      else if (name === 'kernel') await makeKernel(files, temporary);
      else await makeDisk(files, name, temporary);
      rmSync(temporary, { recursive: true });
      progress(`${name} is ready`);
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

async function makeHost(files: LabFiles, temporary: string): Promise<void> {
  const { release, packages } = host;
  const debs = await download('host', release, hostArch, temporary, (apt) => apt.closure(packages));
  progress(`unpacking ${debs.length} packages for the host`);
  const folder = `${temporary}/done`;
  mkdirSync(`${folder}/tree`, { recursive: true });
  await unpack(debs, `${folder}/tree`);
  renameSync(folder, files.host);
}

async function makeKernel(files: LabFiles, temporary: string): Promise<void> {
  const set = kernelPackages(files.kernelName);
  const names = set.packages.map((name) => name.replace('$ARCH', debian[files.arch].name));
  // The version's own packages are what the other one depends on; the rest is for a machine that is installed.
  const isWanted = (name: string) => isOfVersion(name) || name === 'busybox-static';
  const debs = await download('kernel', set.release, files.arch, temporary, async (apt) =>
    (await apt.closure(names)).filter(isWanted),
  );
  const hostTree = `${files.host}/tree`;
  const folder = `${temporary}/done`;
  const tree = `${folder}/modules`;
  mkdirSync(tree, { recursive: true });
  progress('unpacking the kernel');
  const busybox = `${temporary}/busybox`;
  mkdirSync(busybox);
  const isBusybox = (deb: string) => deb.includes('/busybox-static_');
  await unpackKernel(
    debs.filter((deb) => !isBusybox(deb)),
    kernelModules(files.kernelName, files.arch),
    hostTree,
    folder,
  );
  await unpack(debs.filter(isBusybox), busybox);
  writeFileSync(`${folder}/early.cpio`, await earlyArchive(hostTree, `${busybox}/usr/bin/busybox`, tree));
  await packImage(hostTree, tree, `${folder}/modules.erofs`);
  rmSync(tree, { recursive: true });
  renameSync(folder, files.kernel);
}

/** From Linux 7 on, a kernel is in several packages. */
function isOfVersion(name: string): boolean {
  return /^linux-(image|binary|modules|base)-\d/.test(name);
}

async function makeDisk(files: LabFiles, name: Disk, temporary: string): Promise<void> {
  const set: PackageSet = disks[name];
  if (set.module !== undefined && files.arch !== hostArch)
    throw new Error(
      `Cannot make the disk "${name}" for ${files.arch}: it is compiled here, and for x64 only`,
    );
  const release = set.release === '$KERNEL' ? kernels[files.kernelName].release : set.release;
  const debs = await download(name, release, files.arch, temporary, (apt) => packageNames(apt, set, files));
  progress(`unpacking ${debs.length} packages for ${name}`);
  const root = `${temporary}/root`;
  const tree = `${root}/${set.aloneIn ?? ''}`;
  mkdirSync(tree, { recursive: true });
  await unpack(debs, tree);
  if (name === 'base') await settle(tree, files.arch);
  const content = set.module === undefined ? root : await buildModule(set.module, tree, kernelRelease(files));
  await packImage(`${files.host}/tree`, content, `${temporary}/image`);
  renameSync(`${temporary}/image`, files.disks[name]);
}

/** Downloads the chosen packages of a release, and returns their paths. */
async function download(
  name: string,
  release: string,
  arch: Arch,
  temporary: string,
  choose: (apt: Apt) => Promise<readonly string[]>,
): Promise<string[]> {
  progress(`${name}: reading Debian's list of ${release} for ${arch}`);
  const apt = await openApt(`${temporary}/apt`, release, debian[arch].name);
  const names = await choose(apt);
  progress(`${name}: downloading ${names.length} packages`);
  const archives = await apt.download(names);
  return readdirSync(archives)
    .filter((file) => file.endsWith('.deb'))
    .map((file) => `${archives}/${file}`);
}

/** A disk's packages, with all that they need beyond the base system. */
async function packageNames(apt: Apt, set: PackageSet, files: LabFiles): Promise<readonly string[]> {
  if (set.aloneIn !== undefined) return set.packages;
  if (set.module !== undefined) {
    const names = set.packages.map((name) => name.replace('$KERNEL', () => kernelRelease(files)));
    return (await apt.closure(names)).filter((name) => !isForBooting(name));
  }
  // Another release's programs need its own libraries, too.
  if (set.release !== disks.base.release || set === disks.base) return apt.closure(set.packages);
  const inBase = new Set(await apt.closure(disks.base.packages));
  const both = await apt.closure([...disks.base.packages, ...set.packages]);
  return both.filter((name) => !inBase.has(name));
}

/** What the headers bring along for a machine that boots from the kernel that they belong to. */
function isForBooting(name: string): boolean {
  return /^(linux-image|initramfs|systemd|libsystemd-shared|udev|debconf)/.test(name);
}
