/**
 * Error numbers of x86-64 and arm64 Linux (asm-generic/errno-base.h, errno.h) that a netlink request, a driver or a file call of
 * ours can answer with.
 */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  EHOSTUNREACH: 113,
  EDQUOT: 122,
  ENOTSUPP: 524, // include/linux/errno.h: internal to the kernel, yet some drivers return it
} as const;

const errnoNames = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));

/** "EBUSY" for 16; "errno 133" for a number that has no name here. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `errno ${errno}`;
}

/** The kernel refused an operation: what was tried, with which error number, and the kernel's own words where it sent some. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** What was tried, in the infinitive: "set VF 3 of ens1f0". */
  readonly operation: string;
  /** Positive error number. */
  readonly errno: number;
  /** Text of the kernel's extended acknowledgement, where it sent one. */
  readonly hint: string | undefined;

  constructor(operation: string, errno: number, hint?: string) {
    super(`Cannot ${operation}: ${errnoName(errno)}${hint ? ` (${hint})` : ''}`);
    this.operation = operation;
    this.errno = errno;
    this.hint = hint;
  }

  /** "EBUSY" */
  get code(): string {
    return errnoName(this.errno);
  }
}

/** What an errno says of a file; the kernel sends no words for those. */
const fileWords: Readonly<Record<number, string>> = {
  [Errno.EPERM]: 'not permitted',
  [Errno.ENOENT]: 'no such file or folder',
  [Errno.EIO]: 'input/output error',
  [Errno.EAGAIN]: 'not now',
  [Errno.EACCES]: 'not permitted',
  [Errno.EBUSY]: 'in use',
  [Errno.EEXIST]: 'it exists',
  [Errno.ENODEV]: 'no such device',
  [Errno.ENOTDIR]: 'a part of the path is no folder',
  [Errno.EISDIR]: 'it is a folder',
  [Errno.EINVAL]: 'not a usable path or value',
  [Errno.ENFILE]: 'too many open files on this machine',
  [Errno.EMFILE]: 'too many open files',
  [Errno.EFBIG]: 'too large',
  [Errno.ENOSPC]: 'no space left',
  [Errno.EROFS]: 'read-only file system',
  [Errno.EPIPE]: 'nobody reads it any more',
  [Errno.ENAMETOOLONG]: 'the path is too long',
  [Errno.ELOOP]: 'it is a symbolic link',
  [Errno.EDQUOT]: 'the quota is used up',
};

/** A file could not be opened, read, written, ...: the operation names the file. */
export class FileError extends KernelError {
  constructor(operation: string, errno: number, hint: string | undefined = fileWords[errno]) {
    super(operation, errno, hint);
  }
}

/** The error number of a {@link KernelError}; undefined for any other error. */
export function errnoOf(error: unknown): number | undefined {
  return error instanceof KernelError ? error.errno : undefined;
}

/** True if the error carries one of these error numbers. */
export function isErrno(error: unknown, ...errnos: number[]): boolean {
  const errno = errnoOf(error);
  return errno !== undefined && errnos.includes(errno);
}

/** The path exists, but leads to something else than a network namespace. */
export class NotANetns extends Error {
  constructor(path: string) {
    super(`"${path}" is not a network namespace`);
  }
}
