import { Errno, FileError } from './errno.ts';
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
    return unless(doubtful, () => readFile(`${this.root}/${path}`)?.trim());
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
    return unless(doubtfulOfName, () => system.readlink(`${this.root}/${path}`));
  }

  /** Sorted names in a folder; none if it is missing. @throws FileError */
  list(path: string): string[] {
    return unless(doubtfulOfName, () => listFolder(`${this.root}/${path}`)) ?? [];
  }

  /** @throws FileError */
  exists(path: string): boolean {
    return unless(doubtfulOfName, () => system.stat(`${this.root}/${path}`)) !== undefined;
  }

  /** @throws FileError, with the kernel's errno */
  write(path: string, value: string): void {
    writeValue(`${this.root}/${path}`, value);
  }
}

/**
 * Errors that say nothing of what is asked about: no memory, no descriptor, a rule of SELinux. Who took them for "there is none" would take a
 * VF that is in a pod for one that is gone, and forget it.
 */
const doubtful = [Errno.ENOMEM, Errno.EMFILE, Errno.ENFILE, Errno.EACCES];
/** Likewise where no driver is asked, whose answer it could be. */
const doubtfulOfName = [...doubtful, Errno.EIO];

/** In sysfs a missing attribute and one that its driver refuses are the same to us: not known. */
function unless<T>(errnos: readonly number[], call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof FileError && !errnos.includes(error.errno)) return undefined;
    throw error;
  }
}
