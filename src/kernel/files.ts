import { Errno, FileError, isErrno } from './errno.ts';
import { isRegular, system } from './system.ts';

/** Nothing that we read is longer: our own files, those of the kernel, and the records that other plugins keep. */
const maxFileBytes = 16 * 1024 * 1024;

/** Errors that say nothing of what was looked at: memory or descriptors were lacking. */
const shortages: readonly number[] = [Errno.ENOMEM, Errno.EMFILE, Errno.ENFILE];

/**
 * What a look at a file of the kernel's tells; undefined if it is missing or refused. Not so where nobody could look: who took that for
 * "there is none" would take a VF that is in a pod for one that is gone, and forget it.
 * @param unseen error numbers that mean this, besides those of a shortage
 * @throws FileError
 */
export function lookAt<T>(look: () => T, unseen: readonly number[] = []): T | undefined {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof FileError) || [...shortages, ...unseen].includes(error.errno)) throw error;
    return undefined;
  }
}

/** @throws FileError where it cannot be told */
export function exists(path: string): boolean {
  return system.access(path, 0);
}

/** Text of a file; undefined if there is none. @throws FileError */
export function readFile(path: string): string | undefined {
  return system.readFile(path, maxFileBytes);
}

/** Sorted names in a folder; none if there is no such folder. @throws FileError */
export function listFolder(path: string): string[] {
  return system.readFolder(path)?.sort() ?? [];
}

/** Time of the last change in ms since 1970; undefined if there is no such file. */
export function modifiedMs(path: string): number | undefined {
  return system.stat(path)?.modifiedMs;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** Makes a folder, and those above it. @throws FileError */
export function makeFolder(path: string, mode = 0o700): void {
  try {
    system.mkdir(path, mode);
  } catch (error) {
    if (!isErrno(error, Errno.ENOENT)) throw error;
    makeFolder(parent(path), mode);
    system.mkdir(path, mode);
  }
}

/** Does something in a folder, which is made where that fails for want of it. @throws FileError */
export function inFolder<T>(folder: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isErrno(error, Errno.ENOENT)) throw error;
    makeFolder(folder);
    return work();
  }
}

/** @throws FileError if nothing can be written into the folder, which is made if it is missing */
export function checkWritable(folder: string): void {
  makeFolder(folder);
  const probe = `${folder}/.probe`;
  removeFile(probe); // of a run that was killed here
  system.close(system.open(probe, system.O_WRONLY | system.O_CREAT | system.O_NOFOLLOW, 0o600));
  removeFile(probe);
}

/** Removes a file, if it is there. @throws FileError */
export function removeFile(path: string): void {
  system.unlink(path);
}

/** @throws FileError */
export function moveFile(from: string, to: string): void {
  system.rename(from, to);
}

/** What a writer that died leaves beside the file. The next one writes over it. */
export const unfinished = '.tmp';

/**
 * Writes a file, of which there is one writer at a time, so that a reader, and after a power failure the disk, has the old content or the
 * new, never a part. Not every file system writes data before the name that leads to it (ext4 does on renaming over a file, XFS does not).
 * @param durable also have the new content after a power failure from here on: another flush, of the folder
 * @throws FileError
 */
export function writeFileAtomically(path: string, text: string, durable: boolean, mode = 0o600): void {
  const temporary = `${path}${unfinished}`;
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_RDONLY, O_DIRECTORY } = system;
  const fd = system.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  try {
    system.fchmod(fd, mode); // one that was left may have another
    system.writeText(fd, text);
    system.fdatasync(fd);
    system.rename(temporary, path);
  } catch (error) {
    discard(temporary); // a full disk needs every byte of it
    throw error;
  } finally {
    system.close(fd);
  }
  if (!durable) return;
  const folder = system.open(parent(path), O_RDONLY | O_DIRECTORY);
  try {
    system.fsync(folder);
  } finally {
    system.close(folder);
  }
}

/** Removes a file that is of no use to anybody; whoever comes next would write over it. */
function discard(path: string): void {
  try {
    removeFile(path);
  } catch {
    // the error that led here tells more
  }
}

/** A path of a configuration that leads to where whoever wrote it must not reach. */
export class PathRefused extends Error {
  override readonly name = 'PathRefused';
}

/**
 * Confines a path that comes from a network configuration, whose author need not own the node: it must lie below one of the roots, no
 * symbolic link may stand on the way, and what is there must be a regular file. Missing folders are made.
 * @param use is given the path to use: through a descriptor of the folder, so that nobody can put a link in its way meanwhile, and, for
 * later, the plain one
 * @throws PathRefused, FileError
 */
export function confined<T>(
  path: string,
  roots: readonly string[],
  use: (place: string, plain: string) => T,
): T {
  const root = roots.find((candidate) => path.startsWith(`${candidate}/`));
  const below = root === undefined ? [] : path.slice(root.length + 1).split('/');
  const steps = below.filter((step) => step !== '' && step !== '.');
  const name = steps.pop();
  if (root === undefined || name === undefined || name === '..' || steps.includes('..'))
    throw new PathRefused(`"${path}" is not a file below ${roots.join(' or ')}`);
  makeFolder(root, 0o755);
  let plain = system.realpath(root) ?? root;
  let folder = system.open(plain, system.O_PATH | system.O_DIRECTORY);
  const refuse = (wanted: string) =>
    new PathRefused(`"${path}" leads over "${plain}", which is no ${wanted}`);
  const place = (step: string) => `/proc/self/fd/${folder}/${step}`;
  try {
    for (const step of steps) {
      plain = `${plain}/${step}`;
      system.mkdir(place(step), 0o755);
      const next = openStep(place(step), system.O_DIRECTORY);
      if (next === undefined) throw refuse('folder');
      system.close(folder);
      folder = next;
    }
    plain = `${plain}/${name}`;
    if (!isFileOrNothing(place(name))) throw refuse('regular file');
    return use(place(name), plain);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    throw new FileError(
      error.operation.replace(/\/proc\/self\/fd\/\d+\/\S*/, plain),
      error.errno,
      error.hint,
    );
  } finally {
    system.close(folder);
  }
}

/** Opens what stands at a path, without following a link there; undefined if it is a link or of another kind. */
function openStep(place: string, flags: number): number | undefined {
  try {
    return system.open(place, system.O_PATH | system.O_NOFOLLOW | flags);
  } catch (error) {
    if (isErrno(error, Errno.ENOTDIR, Errno.ELOOP)) return undefined;
    throw error;
  }
}

function isFileOrNothing(place: string): boolean {
  let fd: number | undefined;
  try {
    fd = openStep(place, 0);
    return fd !== undefined && isRegular(system.fstat(fd));
  } catch (error) {
    if (isErrno(error, Errno.ENOENT)) return true;
    throw error;
  } finally {
    if (fd !== undefined) system.close(fd);
  }
}

/** {@link confined}, for a path that is used later. */
export function confine(path: string, roots: readonly string[]): string {
  return confined(path, roots, (_, plain) => plain);
}

/** Writes to a kernel file that takes one value (procfs, sysfs). @throws FileError */
export function writeValue(path: string, value: string): void {
  const fd = system.open(path, system.O_WRONLY);
  try {
    system.writeText(fd, value);
  } finally {
    system.close(fd);
  }
}

/** A lock needs no writing: on a file system that has become read-only a VF can still be given back. */
function openLock(path: string): number {
  try {
    return system.open(path, system.O_RDWR | system.O_CREAT | system.O_NOFOLLOW, 0o600);
  } catch (error) {
    if (!isErrno(error, Errno.EROFS)) throw error;
    return system.open(path, system.O_RDONLY | system.O_NOFOLLOW, 0);
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

  /**
   * Takes the lock; undefined if somebody else kept it for timeoutMs (0: do not wait). The file stays when the lock is given back.
   * @throws FileError
   */
  static take(path: string, timeoutMs: number): FileLock | undefined {
    const fd = openLock(path);
    try {
      if (system.flock(fd, timeoutMs)) return new FileLock(path, fd);
    } catch (error) {
      system.close(fd);
      throw error;
    }
    system.close(fd);
    return undefined;
  }

  /** Sets the file's modification time to now. */
  touch(): void {
    system.touch(this.fd);
  }

  /** Gives the lock back. */
  [Symbol.dispose](): void {
    system.close(this.fd);
  }
}
