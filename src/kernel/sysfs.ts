import { Errno } from './errno.ts';
import { listFolder, lookAt, readFile, writeValue } from './files.ts';
import { system } from './system.ts';

/** What a rule of SELinux hides; and where no driver is asked, whose word it could be, an EIO. */
const ofAttributes = [Errno.EACCES];
const ofNames = [Errno.EACCES, Errno.EIO];

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
    return lookAt(() => readFile(`${this.root}/${path}`)?.trim(), ofAttributes);
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
    return lookAt(() => system.readlink(`${this.root}/${path}`), ofNames);
  }

  /** Sorted names in a folder; none if it is missing. @throws FileError */
  list(path: string): string[] {
    return lookAt(() => listFolder(`${this.root}/${path}`), ofNames) ?? [];
  }

  /** @throws FileError */
  exists(path: string): boolean {
    return lookAt(() => system.stat(`${this.root}/${path}`), ofNames) !== undefined;
  }

  /** @throws FileError, with the kernel's errno */
  write(path: string, value: string): void {
    writeValue(`${this.root}/${path}`, value);
  }
}
