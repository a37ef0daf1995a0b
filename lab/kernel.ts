import { execFile } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import type { Arch } from './arch.ts';
import { cpio, type Member } from './cpio.ts';
import { hostProgram } from './host-program.ts';
import { earlyModules, modules } from './packages.ts';
import { unpack } from './tree.ts';

const run = promisify(execFile);

/**
 * Takes what the lab needs out of the kernel's package: `kernel` (ready to run), and the modules it may load, unpacked
 * (their decompression is slow in an emulated processor) and indexed, as a tree in the folder `modules`.
 */
export async function unpackKernel(deb: string, arch: Arch, host: string, folder: string): Promise<void> {
  const tree = `${folder}/modules`;
  const wanted = modules[arch].map((path) => `./usr/lib/modules/*/kernel/${path}`);
  const members = ['./boot/vmlinuz-*', './usr/lib/modules/*/modules.*', ...wanted];
  await unpack([deb], tree, ['--wildcards', '--no-wildcards-match-slash', ...members]);
  const version = kernelVersion(tree);
  writeFileSync(`${folder}/kernel`, uncompressed(readFileSync(`${tree}/boot/vmlinuz-${version}`)));
  rmSync(`${tree}/boot`, { recursive: true });
  const packed = readdirSync(`${tree}/usr/lib/modules`, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.xz'))
    .map((path) => `${tree}/usr/lib/modules/${path}`);
  await run(...hostProgram(host, 'usr/bin/xz', ['--decompress', '--threads=0', ...packed]));
  await run(...hostProgram(host, 'usr/bin/kmod', ['-b', tree, version], 'depmod'));
}

/**
 * The fixed part of the initial RAM file system: busybox, and the modules that are needed before the root is there, one
 * folder per purpose with the files in the order of loading.
 */
export async function earlyArchive(host: string, busybox: string, tree: string): Promise<Buffer> {
  const members: Member[] = [{ path: 'bin' }, { path: 'modules' }];
  members.push({ path: 'bin/busybox', data: readFileSync(busybox) });
  for (const [purpose, names] of Object.entries(earlyModules)) {
    members.push({ path: `modules/${purpose}` });
    const args = ['-d', tree, '-S', kernelVersion(tree), '--all', '--show-depends', ...names];
    const { stdout } = await run(...hostProgram(host, 'usr/bin/kmod', args, 'modprobe'));
    const paths = new Set([...stdout.matchAll(/^insmod (\S+)/gm)].map(([, path]) => path as string));
    for (const [index, path] of [...paths].entries()) {
      const name = `${String(index).padStart(2, '0')}-${path.slice(path.lastIndexOf('/') + 1)}`;
      members.push({ path: `modules/${purpose}/${name}`, data: readFileSync(path) });
    }
  }
  return cpio(members);
}

function kernelVersion(tree: string): string {
  const [version] = readdirSync(`${tree}/usr/lib/modules`);
  if (version === undefined) throw new Error(`Cannot find the modules of a kernel in ${tree}`);
  return version;
}

/**
 * The kernel proper out of x86's self-extracting form: an emulated processor takes 2 s for what is 0.1 s here, and QEMU
 * starts the bare ELF file at its PVH entry point. Fields: Documentation/arch/x86/boot.rst of the kernel. arm64's is bare.
 */
function uncompressed(image: Buffer): Buffer {
  if (image.toString('latin1', 0x202, 0x206) !== 'HdrS') return image;
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const offset = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const length = image.readUInt32LE(0x24c);
  // The last four bytes are the size of what is unpacked.
  const payload = image.subarray(offset, offset + length - 4);
  const zstdMagic = 0xfd2fb528;
  return payload.readUInt32LE(0) === zstdMagic ? zstdDecompressSync(payload) : image;
}
