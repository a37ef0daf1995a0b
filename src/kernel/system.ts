import { loadAddon } from './addon.ts';
import { FileError, KernelError } from './errno.ts';

/** A layer 3 packet for {@link System.announce}. */
export interface Frame {
  /** EtherType: 0x0806 or 0x86dd. */
  readonly protocol: number;
  /** Destination MAC address, 6 bytes. */
  readonly to: Uint8Array;
  /** At most 128 bytes. */
  readonly bytes: Uint8Array;
}

/** What is at a path or behind a descriptor. */
export interface Stat {
  /** S_IF* and permissions. */
  readonly mode: number;
  readonly size: number;
  readonly inode: number;
  /** Number of a device file. */
  readonly rdev: number;
  /** Milliseconds since 1970. */
  readonly modifiedMs: number;
}

/**
 * Every system call of the program (native/system.c). All are synchronous and wait as long as it takes, over signals and over descriptors
 * that do not block. Those of files throw {@link FileError}, all others {@link KernelError}. Where something is looked at, a file that
 * is not there is undefined. No path may hold a zero byte. Nothing is open in a program that we start, unless it is handed over.
 */
export interface System {
  // Flags of open(). They are not the same on every machine.
  readonly O_RDONLY: number;
  readonly O_WRONLY: number;
  readonly O_RDWR: number;
  readonly O_CREAT: number;
  readonly O_TRUNC: number;
  readonly O_APPEND: number;
  readonly O_PATH: number;
  readonly O_DIRECTORY: number;
  readonly O_NOFOLLOW: number;
  readonly O_NONBLOCK: number;

  /** @param mode of a file that is made, whatever the umask */
  open(path: string, flags: number, mode?: number): number;
  close(fd: number): void;
  /** Text from where the descriptor stands to its end. @throws FileError, with EFBIG if it has more than maxBytes, unless it may be cut */
  readText(fd: number, maxBytes: number, mayCut?: 0 | 1): string;
  /** Writes all of it. */
  writeText(fd: number, text: string): void;
  /** @throws FileError, with EFBIG if it has more than maxBytes */
  readFile(path: string, maxBytes: number): string | undefined;
  /** Follows symbolic links. */
  stat(path: string): Stat | undefined;
  fstat(fd: number): Stat;
  /** Magic number of the file system that a descriptor leads to. */
  fstatfs(fd: number): number;
  /** False if it is missing. @param mode R_OK 4, W_OK 2, X_OK 1, F_OK 0 */
  access(path: string, mode: number): boolean;
  /** Names in no order. */
  readFolder(path: string): string[] | undefined;
  readlink(path: string): string | undefined;
  realpath(path: string): string | undefined;
  /** False if something of that name is there. */
  mkdir(path: string, mode: number): boolean;
  /** False if there is no such file. */
  unlink(path: string): boolean;
  rename(from: string, to: string): void;
  fsync(fd: number): void;
  fdatasync(fd: number): void;
  fchmod(fd: number, mode: number): void;
  /** Sets the time of the last change to now. */
  touch(fd: number): void;
  /** Waits for POLLIN 1, POLLOUT 4; false after timeoutMs (negative: no limit). */
  poll(fd: number, events: number, timeoutMs: number): boolean;
  /** Width of the terminal behind a descriptor (0: it does not know); undefined if there is none. */
  columns(fd: number): number | undefined;
  /** Takes an exclusive lock; false if somebody else kept it for timeoutMs (0: do not wait). */
  flock(fd: number, timeoutMs: number): boolean;
  /** An anonymous file that holds a text and stands at its start. */
  memfd(name: string, text: string): number;
  /** A pipe: the end to read from, and the one to write to. */
  pipe(): [number, number];

  /** Starts a program that is killed when we die. keptFds stay open in it under their numbers, stderr is ours. Returns its pid. */
  spawn(
    file: string,
    argv: readonly string[],
    env: readonly string[],
    stdinFd: number,
    stdoutFd: number,
    keptFds: readonly number[],
  ): number;
  /** Exit code of a child, 128 + signal, or -1 if it still runs after timeoutMs (negative: no limit). */
  wait(pid: number, timeoutMs: number): number;
  /**
   * A child writes the text to a file and exits with 0 or a code that {@link writerErrno} reads; it keeps only keptFd open. For kernel
   * files whose write may block where no signal reaches. Returns its pid.
   */
  writeInChild(path: string, text: string, keptFd: number): number;
  /** Ends the process at once: without teardown, so everything must have been written synchronously. */
  exit(code: number): never;

  /** The main thread enters the network namespace of this descriptor. Our calls follow it, Node's thread pool does not. */
  setns(fd: number): void;
  /** Identity of the current network namespace, unique until reboot; "" before Linux 5.14. */
  netnsCookie(): string;
  /** Bus address of a link of the current namespace as its driver tells it; "" for a link without one. */
  busInfo(ifname: string): string;
  /** Id of the process that connected this Unix socket to us; 0 if it is in another pid namespace. */
  peerPid(fd: number): number;
  /**
   * Sends the packets on a link of the current namespace: now if it has carrier (true), else as soon as it has, for at most patienceMs
   * (false). A background process has the last of the socket, because the kernel takes its time to close one.
   * @param netns path of the namespace: no longer waited than it leads to this inode, because a socket keeps its namespace
   */
  announce(
    ifname: string,
    ifindex: number,
    frames: readonly Frame[],
    patienceMs: number,
    netns: string,
    inode: number,
  ): boolean;

  /**
   * A netlink socket of the current namespace, with the kernel's error texts on, and without errors for lost notifications.
   * @param protocol NETLINK_*
   */
  netlinkOpen(protocol: number): number;
  /** Sets these options of our netlink socket with this port, whose descriptor we are not told. */
  netlinkSetUp(port: number): void;
  netlinkSend(fd: number, bytes: Uint8Array): void;
  /** The kernel's next datagram; undefined if none came for timeoutMs. */
  netlinkReceive(fd: number, timeoutMs: number): Uint8Array | undefined;
  /** Enters or leaves a multicast group. */
  netlinkMembership(fd: number, group: number, join: 0 | 1): void;

  /** Milliseconds of a clock that never jumps. */
  nowMs(): number;
}

// Of Stat.mode (uapi/linux/stat.h)
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const S_IFSOCK = 0o140000;

export function isRegular({ mode }: Stat): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

export function isCharacterDevice({ mode }: Stat): boolean {
  return (mode & S_IFMT) === S_IFCHR;
}

export function isSocket({ mode }: Stat): boolean {
  return (mode & S_IFMT) === S_IFSOCK;
}

/** The error number of a child of {@link System.writeInChild}, from its exit code (exit_code_of() in system.c); 0: it has written. */
export function writerErrno(exitCode: number): number {
  return exitCode > 199 ? exitCode - 200 + 512 : exitCode;
}

type Calls = Record<string, ((...args: unknown[]) => unknown) | number>;

const calls = loadAddon('system') as Calls;

/** What a descriptor leads to, as an operator knows it. */
function nameOf(fd: unknown): string {
  const standard = ['stdin', 'stdout', 'stderr'][fd as number];
  if (standard !== undefined) return standard;
  try {
    const target = system.readlink(`/proc/self/fd/${fd as number}`) ?? `file ${fd as number}`;
    return target.startsWith('net:[') ? `network namespace ${target}` : target;
  } catch {
    return `file ${fd as number}`;
  }
}

/** What the calls of files try to do with the file that their first argument names. */
const fileOperations: Readonly<Record<string, string>> = {
  open: 'open',
  readText: 'read',
  writeText: 'write',
  readFile: 'read',
  stat: 'look at',
  fstat: 'look at',
  fstatfs: 'look at',
  access: 'look at',
  readFolder: 'list',
  readlink: 'follow',
  realpath: 'follow',
  mkdir: 'make',
  unlink: 'remove',
  rename: 'move',
  fsync: 'sync',
  fdatasync: 'sync',
  fchmod: 'set the mode of',
  touch: 'touch',
  poll: 'wait for',
  flock: 'lock',
  spawn: 'start',
};

function isRefusal(error: unknown): error is { syscall: string; errno: number } {
  return typeof error === 'object' && error !== null && 'syscall' in error && 'errno' in error;
}

/** The call itself, whose refusals are errors of ours: the one place where an errno becomes an error. */
function checked(name: string, call: (...args: unknown[]) => unknown) {
  const operation = fileOperations[name];
  // As many as the longest has, and no list of them: that would cost more than most calls.
  return (file: unknown, b: unknown, c: unknown, d: unknown, e: unknown, f: unknown) => {
    try {
      return call(file, b, c, d, e, f);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const { syscall, errno } = error;
      if (operation === undefined) throw new KernelError(`call ${syscall}()`, errno);
      throw new FileError(`${operation} ${typeof file === 'string' ? file : nameOf(file)}`, errno);
    }
  };
}

export const system = Object.fromEntries(
  Object.entries(calls).map(([name, call]) => [name, typeof call === 'number' ? call : checked(name, call)]),
) as unknown as System;
