import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

/** True in the packaged executable: set by build/bundle.ts. */
declare const PACKAGED: boolean | undefined;

/** Files of the two addons in a checkout; in the executable they are assets of the same name. */
const addonFiles = {
  sriov: '../../dist/native/sriov.node',
  netlink: `../../node_modules/netlink/prebuilds/linux-${process.arch}/node.napi.node`,
} as const;

/** Loads one of the two native addons: from the executable itself, or from the checkout in tests. */
export function loadAddon(name: keyof typeof addonFiles): unknown {
  if (typeof PACKAGED === 'undefined') return createRequire(import.meta.url)(addonFiles[name]);
  return loadAsset(name);
}

const stateFolder = '/var/lib/cni/sriov';
/** Where an unnamed executable file may be made: glibc loads libraries from files only. */
const folders = [stateFolder, dirname(process.execPath), '/run', '/dev/shm', '/tmp'];

/** O_TMPFILE | O_DIRECTORY (asm-generic/fcntl.h); Node's constants do not have it. */
const O_TMPFILE = 0o20200000;

/** No folder of the host lets us load the native parts. */
export class CannotLoadAddon extends Error {
  override readonly name = 'CannotLoadAddon';
}

/**
 * The file has no name, so nobody can replace it, any number of first starts cannot trip over each other, and nothing is left behind.
 * Its descriptor stays open: a second library under the same /proc/self/fd/N name would be taken for the first one.
 */
function loadAsset(name: string): unknown {
  const sea = process.getBuiltinModule('node:sea');
  const bytes = new Uint8Array(sea.getRawAsset(name));
  const failures: string[] = [];
  for (const folder of folders) {
    let fd: number | undefined;
    try {
      if (folder === stateFolder) mkdirSync(folder, { recursive: true, mode: 0o700 });
      fd = openSync(folder, O_TMPFILE | constants.O_RDWR, 0o700);
      for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
      const module = { exports: {} };
      process.dlopen(module, `/proc/self/fd/${fd}`);
      folders.splice(0, folders.length, folder);
      return module.exports;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      failures.push(`${folder}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new CannotLoadAddon(
    `Cannot load the native part "${name}": one of ${folders.join(', ')} must be writable and not mounted noexec (${failures.join('; ')})`,
  );
}
