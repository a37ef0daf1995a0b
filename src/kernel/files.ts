import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { Errno, isErrno } from './errno.ts';
import { native } from './native.ts';

/** Runs a file call; undefined if there is no such file. */
function ifExists<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (isErrno(error, Errno.ENOENT, Errno.ENOTDIR)) return undefined;
    throw error;
  }
}

export function exists(path: string): boolean {
  return existsSync(path);
}

/** Text of a file; undefined if there is none. */
export function readFile(path: string): string | undefined {
  return ifExists(() => readFileSync(path, 'utf8'));
}

/** Everything on stdin. */
export function readStdin(): string {
  return readFileSync(0, 'utf8');
}

/** Sorted names in a folder; none if there is no such folder. */
export function listFolder(path: string): string[] {
  return ifExists(() => readdirSync(path))?.sort() ?? [];
}

/** Time of the last change in ms since 1970; undefined if there is no such file. */
export function modifiedMs(path: string): number | undefined {
  return ifExists(() => statSync(path).mtimeMs);
}

export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** @throws the file call's error if nothing can be written into the folder, which is made if it is missing */
export function checkWritable(folder: string): void {
  makeFolder(folder);
  const probe = `${folder}/.probe.${process.pid}`;
  closeSync(openSync(probe, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600));
  unlinkSync(probe);
}

/** Removes a file, if it is there. Node's rmSync() would load a module for folders first. */
export function removeFile(path: string): void {
  ifExists(() => unlinkSync(path));
}

export function moveFile(from: string, to: string): void {
  renameSync(from, to);
}

function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** What a writer that died leaves beside the file. The next one writes over it. */
export const unfinished = '.tmp';

/**
 * Writes a file, of which there is one writer at a time, so that a reader, and after a crash the disk, has the old content or the new, never a part.
 * @param durable also survive a power failure: costs two fsyncs
 */
export function writeFileAtomically(path: string, text: string, durable: boolean, mode = 0o600): void {
  const temporary = `${path}${unfinished}`;
  const fd = openSync(
    temporary,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    mode,
  );
  try {
    const bytes = Buffer.from(text);
    for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
    if (durable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  if (durable) syncFolder(dirname(path));
}

/** A path of a configuration that leads to where whoever wrote it must not reach. */
export class PathRefused extends Error {
  override readonly name = 'PathRefused';
}

/**
 * Confines a path that comes from a network configuration, whose author need not own the node: it must lie below one of the roots, no
 * symbolic link may stand on the way, and what is there must be a regular file. Missing folders are made.
 * @returns the path to use
 * @throws PathRefused
 */
export function confine(path: string, roots: readonly string[]): string {
  const root = roots.find((candidate) => path.startsWith(`${candidate}/`));
  const steps = root === undefined ? [] : path.slice(root.length + 1).split('/').filter((step) => step !== '' && step !== '.'); // prettier-ignore
  if (root === undefined || steps.length === 0 || steps.includes('..')) {
    throw new PathRefused(`"${path}" is not a file below ${roots.join(' or ')}`);
  }
  mkdirSync(root, { recursive: true, mode: 0o755 });
  let place = realpathSync(root);
  for (const [i, step] of steps.entries()) {
    place = `${place}/${step}`;
    const isLast = i === steps.length - 1;
    const found = lstatSync(place, { throwIfNoEntry: false });
    if (!found && !isLast) mkdirSync(place, { mode: 0o755 });
    if (found && !(isLast ? found.isFile() : found.isDirectory())) {
      throw new PathRefused(
        `"${path}" leads over "${place}", which is no ${isLast ? 'regular file' : 'folder'}`,
      );
    }
  }
  return place;
}

/** Writes to a kernel file that takes one value (procfs, sysfs). */
export function writeValue(path: string, value: string): void {
  const fd = openSync(path, constants.O_WRONLY);
  try {
    writeSync(fd, value);
  } finally {
    closeSync(fd);
  }
}

/** An exclusive lock on a file, given back by the kernel when the process ends. Children that keep {@link fd} share it. */
export class FileLock {
  readonly path: string;
  readonly fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  /** Takes the lock; undefined if somebody else kept it for timeoutMs (0: do not wait). The file stays when the lock is given back. */
  static take(path: string, timeoutMs: number): FileLock | undefined {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      if (native.flock(fd, timeoutMs)) return new FileLock(path, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
    return undefined;
  }

  /** Sets the file's modification time to now. */
  touch(): void {
    const now = new Date();
    futimesSync(this.fd, now, now);
  }

  /** Gives the lock back. */
  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
