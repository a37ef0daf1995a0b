import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

/** True in the packaged executable: set by build/bundle.ts. */
declare const PACKAGED: boolean | undefined;

/** Files of the native addons in a checkout; in the executable they are assets of the same name. */
const addonFiles = {
  system: '../../dist/native/system.node',
  netlink: `../../node_modules/netlink/prebuilds/linux-${process.arch}/node.napi.node`,
} as const;

/** Loads one of the native addons: from the executable itself, or from the checkout in tests. @throws CannotLoadAddon */
export function loadAddon(name: keyof typeof addonFiles): unknown {
  if (typeof PACKAGED === 'undefined') return createRequire(import.meta.url)(addonFiles[name]);
  const addon = loadAsset(name);
  if (name === 'system') {
    // With it the others need no folder.
    const { memfd } = addon as { memfd: (name: string, text: string) => number };
    places.unshift({ name: 'memory', open: () => memfd('addon', '') });
  }
  return addon;
}

const stateFolder = '/var/lib/cni/sriov';

/** Somewhere that an executable file without a name can be made: glibc loads libraries from files only. */
interface Place {
  readonly name: string;
  /** @throws the file call's error */
  readonly open: () => number;
}

/** In the order in which they are tried. */
const places: Place[] = [stateFolder, dirname(process.execPath), '/run', '/dev/shm', '/tmp'].map(
  (folder) => ({
    name: folder,
    open: () => {
      if (folder === stateFolder) mkdirSync(folder, { recursive: true, mode: 0o700 });
      return openSync(folder, unnamedFile(constants.O_DIRECTORY) | constants.O_RDWR, 0o700);
    },
  }),
);

/** O_TMPFILE (asm-generic/fcntl.h), which Node's constants lack. O_DIRECTORY, which is part of it, has another value on arm64. */
export function unnamedFile(directoryFlag: number): number {
  return 0o20000000 | directoryFlag;
}

/** Nowhere on the host can the native parts be loaded from. */
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
  for (const place of places) {
    let fd: number | undefined;
    try {
      fd = place.open();
      for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
      const module = { exports: {} };
      process.dlopen(module, `/proc/self/fd/${fd}`);
      return module.exports;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      failures.push(`${place.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const kilobytes = Math.ceil(bytes.length / 1024);
  throw new CannotLoadAddon(
    `Cannot load the native part "${name}": one of ${places.map((place) => place.name).join(', ')} ` +
      `must be writable, not mounted noexec, and have ${kilobytes} KB left (${failures.join('; ')})`,
  );
}
