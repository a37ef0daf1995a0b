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

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
    const inside = this.#enter(() => ({ rtnl: new Rtnetlink(), cookie: system.netnsCookie() }));
    this.rtnl = inside.rtnl;
    this.identity = { cookie: inside.cookie || undefined, inode: system.fstat(fd).inode };
  }

  /** @throws NotANetns, FileError (ENOENT) */
  static open(path: string): Netns {
    const fd = system.open(path, system.O_RDONLY | system.O_NONBLOCK); // a FIFO would be waited at
    try {
      if (system.fstatfs(fd) !== NSFS_MAGIC) throw new NotANetns(path);
      return new Netns(path, fd);
    } catch (error) {
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
    return this.#enter(call);
  }

  #enter<T>(call: () => T): T {
    const home = system.open('/proc/thread-self/ns/net', system.O_RDONLY);
    try {
      enter(this.fd, this.path);
      try {
        return call();
      } finally {
        system.setns(home);
      }
    } finally {
      system.close(home);
    }
  }

  [Symbol.dispose](): void {
    this.rtnl.close();
    system.close(this.fd);
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
