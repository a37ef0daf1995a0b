import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import { cpio, type Member } from './cpio.ts';
import { hostProgram } from './host-program.ts';
import { earlyModules } from './packages.ts';
import { unpackMembers } from './tree.ts';

const run = promisify(execFile);

/**
 * Takes what the lab needs out of the kernel's packages (one until Linux 6.12, later several): `kernel` (ready to run), and the modules it may
 * load, unpacked (their decompression is slow in an emulated processor) and indexed, as a tree in the folder `modules`.
 */
export async function unpackKernel(
  debs: readonly string[],
  modules: readonly string[],
  host: string,
  folder: string,
): Promise<void> {
  const tree = `${folder}/modules`;
  const wanted = modules.map((path) => `lib/modules/*/kernel/${path}`);
  await unpackMembers(debs, tree, ['vmlinuz*', 'lib/modules/*/modules.*', ...wanted]);
  const version = kernelVersion(tree);
  const places = [`${tree}/boot/vmlinuz-${version}`, `${tree}/usr/lib/modules/${version}/vmlinuz`];
  const image = places.find((path) => existsSync(path));
  if (image === undefined) throw new Error(`Cannot find the kernel ${version} in ${debs.join(', ')}`);
  await uncompress(readFileSync(image), host, `${folder}/kernel`);
  rmSync(image);
  const packed = readdirSync(`${tree}/usr/lib/modules`, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.xz'))
    .map((path) => `${tree}/usr/lib/modules/${path}`);
  if (packed.length > 0)
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
 * Writes the kernel proper out of x86's self-extracting form: an emulated processor takes 2 s for what is 0.1 s here, and QEMU
 * starts the bare ELF file at its PVH entry point. Fields: Documentation/arch/x86/boot.rst of the kernel. arm64's is bare.
 */
async function uncompress(image: Buffer, host: string, path: string): Promise<void> {
  if (image.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    writeFileSync(path, image);
    return;
  }
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const offset = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const length = image.readUInt32LE(0x24c);
  // The last four bytes are the size of what is unpacked.
  const payload = image.subarray(offset, offset + length - 4);
  const magic = payload.toString('hex', 0, 4);
  if (magic === '28b52ffd') writeFileSync(path, zstdDecompressSync(payload));
  else if (magic === 'fd377a58') {
    writeFileSync(`${path}.xz`, payload);
    await run(...hostProgram(host, 'usr/bin/xz', ['--decompress', `${path}.xz`]));
  } else throw new Error(`Cannot unpack the kernel: it is compressed in a way that begins with ${magic}`);
}
