import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { LabFiles } from './cache.ts';

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
  mkdirSync(work);
  copyFileSync(`${import.meta.dirname}/guest/${name}.c`, `${work}/${name}.c`);
  writeFileSync(`${work}/Makefile`, `obj-m := ${name}.o\n`);
  symlinkSync('gawk', `${tree}/usr/bin/awk`);
  mkdirSync(`${tree}/dev`, { recursive: true });
  writeFileSync(`${tree}/dev/null`, '');
  // The makefiles read and write /dev/null. A user namespace allows this to anybody; root need not have one.
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const script = `mount --bind /dev/null "$1/dev/null"
    exec chroot "$1" make -C /usr/src/linux-headers-${release} M=/build modules`;
  try {
    await promisify(execFile)('unshare', [...user, '--mount', 'bash', '-ec', script, 'build', tree], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      maxBuffer: 1 << 24,
    });
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`Cannot compile the module ${name}:\n${stdout}${stderr}`, { cause: error });
  }
  const content = `${work}/content`;
  mkdirSync(`${content}/lab`, { recursive: true });
  copyFileSync(`${work}/${name}.ko`, `${content}/lab/${name}.ko`);
  return content;
}
