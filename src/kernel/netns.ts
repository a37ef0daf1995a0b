import { errnoOf, KernelError, NotANetns } from './errno.ts';
import { Rtnetlink } from './netlink.ts';
import { system } from './system.ts';

/** NSFS_MAGIC (uapi/linux/magic.h) */
const NSFS_MAGIC = 0x6e736673;

/** Tells one network namespace from another, whatever path leads to it. */
export interface NetnsIdentity {
  /** Never reused until the next reboot; undefined before Linux 5.14. */
  readonly cookie?: string | undefined;
  /** Reused at once when a namespace is gone. */
  readonly inode: number;
}

/** An open network namespace. */
export class Netns {
  readonly path: string;
  /** For IFLA_NET_NS_FD. */
  readonly fd: number;
  readonly identity: NetnsIdentity;
  /** A socket that was opened in it. */
  readonly rtnl: Rtnetlink;

  private constructor(path: string, fd: number, rtnl: Rtnetlink, identity: NetnsIdentity) {
    this.path = path;
    this.fd = fd;
    this.rtnl = rtnl;
    this.identity = identity;
  }

  /** @throws NotANetns, FileError (ENOENT) */
  static open(path: string): Netns {
    const fd = system.open(path, system.O_RDONLY | system.O_NONBLOCK); // a FIFO would be waited at
    let rtnl: Rtnetlink | undefined;
    try {
      if (system.fstatfs(fd) !== NSFS_MAGIC) throw new NotANetns(path);
      const { inode } = system.fstat(fd);
      const cookie = within(fd, path, () => {
        rtnl = new Rtnetlink();
        return system.netnsCookie();
      });
      return new Netns(path, fd, rtnl!, { cookie: cookie || undefined, inode });
    } catch (error) {
      // A socket keeps its namespace as a descriptor does: a daemon that lost one would hold a VF that is in there.
      rtnl?.close();
      system.close(fd);
      throw error;
    }
  }

  /** The namespace of this process. */
  static current(): Netns {
    return Netns.open('/proc/thread-self/ns/net');
  }

  /**
   * Runs a synchronous function inside: for procfs (/proc/sys/net follows the calling thread) and for sockets, which stay in the
   * namespace they were opened in. Nothing in it may wait: other work would run in the wrong namespace.
   */
  inside<T>(call: () => T extends Promise<unknown> ? never : T): T {
    return within(this.fd, this.path, call);
  }

  [Symbol.dispose](): void {
    this.rtnl.close();
    system.close(this.fd);
  }
}

function within<T>(fd: number, path: string, call: () => T): T {
  const home = system.open('/proc/thread-self/ns/net', system.O_RDONLY);
  try {
    enter(fd, path);
    try {
      return call();
    } finally {
      comeHome(home);
    }
  } finally {
    system.close(home);
  }
}

/** Whoever stayed away would do all that follows in the wrong namespace, and keep that alive: what lacked memory once is tried again. */
function comeHome(home: number): void {
  try {
    system.setns(home);
  } catch {
    system.setns(home);
  }
}

/** @throws KernelError that names the namespace */
function enter(fd: number, path: string): void {
  try {
    system.setns(fd);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    throw new KernelError(`enter the network namespace "${path}"`, errno);
  }
}

/** True if both name the same namespace; the inode decides only where the kernel has no cookies. */
export function isSameNetns(a: NetnsIdentity, b: NetnsIdentity): boolean {
  return a.cookie !== undefined && b.cookie !== undefined ? a.cookie === b.cookie : a.inode === b.inode;
}
