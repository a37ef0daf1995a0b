import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { errnoOf } from './errno.ts';
import { writeValue } from './files.ts';

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
    return quietly(() => readFileSync(`${this.root}/${path}`, 'utf8').trim());
  }

  /** An attribute that is a whole number. */
  readNumber(path: string): number | undefined {
    const text = this.read(path);
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  }

  /** Last component of a symbolic link's target: the PCI address behind `physfn`, the driver behind `driver`. */
  linkName(path: string): string | undefined {
    return quietly(() => basename(readlinkSync(`${this.root}/${path}`)));
  }

  /** Sorted names in a folder; none if it is missing. */
  list(path: string): string[] {
    return quietly(() => readdirSync(`${this.root}/${path}`).sort()) ?? [];
  }

  exists(path: string): boolean {
    return existsSync(`${this.root}/${path}`);
  }

  /** @throws the file call's error, with the kernel's errno */
  write(path: string, value: string): void {
    writeValue(`${this.root}/${path}`, value);
  }
}

/** In sysfs a missing attribute and one that its driver refuses are the same to us: not known. Anything else is a bug. */
function quietly<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
