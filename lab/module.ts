import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { LabFiles } from './cache.ts';
import { type KernelSource, kernelSources } from './packages.ts';

/** The release of the guest's kernel, as `uname -r` there. */
export function kernelRelease(files: LabFiles): string {
  const release = /Linux version (\S+) /.exec(readFileSync(`${files.kernel}/kernel`, 'latin1'))?.[1];
  if (release === undefined) throw new Error(`Cannot find the release of the kernel ${files.kernel}/kernel`);
  return release;
}

/**
 * Compiles a module of the guest's kernel by the kernel's own makefiles, with the compiler it was made with: both are in
 * the tree of packages, which becomes the root for that. Returns a folder that has the module as lab/NAME.ko.
 */
export async function buildModule(name: string, tree: string, release: string): Promise<string> {
  const work = `${tree}/build`;
  const source = kernelSources[name];
  mkdirSync(work);
  symlinkSync('gawk', `${tree}/usr/bin/awk`);
  mkdirSync(`${tree}/dev`, { recursive: true });
  writeFileSync(`${tree}/dev/null`, '');
  if (source) {
    await unpackSource(source, tree);
    edit(source, work);
  } else {
    copyFileSync(`${import.meta.dirname}/guest/${name}.c`, `${work}/${name}.c`);
    writeFileSync(`${work}/Makefile`, `obj-m := ${name}.o\n`);
  }
  await inTree(`compile the module ${name}`, tree, [
    'make',
    ...['-C', `/usr/src/linux-headers-${release}`, 'M=/build', ...(source?.config ?? []), 'modules'],
  ]);
  const content = `${work}/content`;
  mkdirSync(`${content}/lab`, { recursive: true });
  copyFileSync(`${work}/${name}.ko`, `${content}/lab/${name}.ko`);
  return content;
}

/** Runs a program of the tree with the tree as its root. */
async function inTree(task: string, tree: string, command: readonly string[]): Promise<void> {
  // The makefiles read and write /dev/null. A user namespace allows this to anybody; root need not have one.
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const script = 'mount --bind /dev/null "$1/dev/null"; exec chroot "$@"';
  try {
    await promisify(execFile)(
      'unshare',
      [...user, '--mount', 'bash', '-ec', script, 'build', tree, ...command],
      {
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
        maxBuffer: 1 << 24,
      },
    );
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`Cannot ${task}:\n${stdout}${stderr}`, { cause: error });
  }
}

/** Takes one folder out of the archive that Debian's package of the kernel's source is, into /build. */
async function unpackSource({ folder }: KernelSource, tree: string): Promise<void> {
  const archive = readdirSync(`${tree}/usr/src`).find((file) => /^linux-source-.*\.tar\.xz$/.test(file));
  if (archive === undefined) throw new Error(`Cannot find the kernel's source in ${tree}/usr/src`);
  const top = archive.replace('.tar.xz', '');
  const options = ['--extract', '--xz', '--file', `/usr/src/${archive}`, '--directory', '/build'];
  const strip = `--strip-components=${folder.split('/').length + 1}`;
  await inTree("unpack the kernel's source", tree, ['tar', ...options, strip, `${top}/${folder}`]);
}

/** @throws if the source is not the one that the edits were made for */
function edit({ edits }: KernelSource, work: string): void {
  for (const [file, changes] of Object.entries(edits)) {
    let text = readFileSync(`${work}/${file}`, 'utf8');
    for (const { before = '', after = '', insert } of changes) {
      const place = before || after;
      if (text.split(place).length !== 2)
        throw new Error(`Cannot change ${file} of the kernel: it has not one ${JSON.stringify(place)}`);
      text = text.replace(place, () => (before ? insert + before : after + insert));
    }
    writeFileSync(`${work}/${file}`, text);
  }
}
