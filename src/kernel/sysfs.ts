import { Errno, FileError, isShortage } from './errno.ts';
import { listFolder, readFile, writeValue } from './files.ts';
import { system } from './system.ts';

/**
 * A sysfs tree. Its root is a value, so that tests read a tree of their own. Only the host's links are in it: a link in a pod's
 * namespace is told by netlink alone.
 */
export class Sysfs {
  readonly root: string;

  constructor(root = '/sys') {
    this.root = root;
  }

  /** Trimmed text of an attribute; undefined if it is missing or the driver refuses to tell. @throws FileError */
  read(path: string): string | undefined {
    return unless(ofAttributes, () => readFile(`${this.root}/${path}`)?.trim());
  }

  /** An attribute that is a whole number. */
  readNumber(path: string): number | undefined {
    const text = this.read(path);
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  }

  /** Last component of a symbolic link's target: the PCI address behind `physfn`, the driver behind `driver`. @throws FileError */
  linkName(path: string): string | undefined {
    const target = this.#target(path);
    return target?.slice(target.lastIndexOf('/') + 1);
  }

  /** Name of the folder that the target lies in: the PCI address above `bus/virtio/devices/virtio3`. @throws FileError */
  linkFolder(path: string): string | undefined {
    return this.#target(path)?.split('/').at(-2);
  }

  #target(path: string): string | undefined {
    return unless(ofNames, () => system.readlink(`${this.root}/${path}`));
  }

  /** Sorted names in a folder; none if it is missing. @throws FileError */
  list(path: string): string[] {
    return unless(ofNames, () => listFolder(`${this.root}/${path}`)) ?? [];
  }

  /** @throws FileError */
  exists(path: string): boolean {
    return unless(ofNames, () => system.stat(`${this.root}/${path}`)) !== undefined;
  }

  /** @throws FileError, with the kernel's errno */
  write(path: string, value: string): void {
    writeValue(`${this.root}/${path}`, value);
  }
}

/**
 * In sysfs a missing attribute and one that its driver refuses are the same to us: not known. Not so where nobody could look: who took that
 * for "there is none" would take a VF that is in a pod for one that is gone, and forget it.
 * @param unseen errors that mean that, besides those of a shortage
 */
function unless<T>(unseen: readonly number[], call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof FileError && !isShortage(error) && !unseen.includes(error.errno)) return undefined;
    throw error;
  }
}

/** Of an attribute: a rule of SELinux. An EIO can be its driver's word. */
const ofAttributes = [Errno.EACCES];
const ofNames = [Errno.EACCES, Errno.EIO];
