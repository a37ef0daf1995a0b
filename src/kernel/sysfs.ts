import { FileError } from './errno.ts';
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

  /** Trimmed text of an attribute; undefined if it is missing or the driver refuses to tell. */
  read(path: string): string | undefined {
    return quietly(() => readFile(`${this.root}/${path}`)?.trim());
  }

  /** An attribute that is a whole number. */
  readNumber(path: string): number | undefined {
    const text = this.read(path);
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  }

  /** Last component of a symbolic link's target: the PCI address behind `physfn`, the driver behind `driver`. */
  linkName(path: string): string | undefined {
    const target = quietly(() => system.readlink(`${this.root}/${path}`));
    return target?.slice(target.lastIndexOf('/') + 1);
  }

  /** Name of the folder that the target lies in: the PCI address above `bus/virtio/devices/virtio3`. */
  linkFolder(path: string): string | undefined {
    return quietly(() => system.readlink(`${this.root}/${path}`))
      ?.split('/')
      .at(-2);
  }

  /** Sorted names in a folder; none if it is missing. */
  list(path: string): string[] {
    return quietly(() => listFolder(`${this.root}/${path}`)) ?? [];
  }

  exists(path: string): boolean {
    return system.access(`${this.root}/${path}`, 0);
  }

  /** @throws FileError, with the kernel's errno */
  write(path: string, value: string): void {
    writeValue(`${this.root}/${path}`, value);
  }
}

/** In sysfs a missing attribute and one that its driver refuses are the same to us: not known. Anything else is a bug. */
function quietly<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof FileError) return undefined;
    throw error;
  }
}
