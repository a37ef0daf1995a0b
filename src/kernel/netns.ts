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
    try {
      if (system.fstatfs(fd) !== NSFS_MAGIC) throw new NotANetns(path);
      return Netns.#of(path, fd, (look) => within(fd, path, look));
    } catch (error) {
      system.close(fd);
      throw error;
    }
  }

  /** The namespace of this process. */
  static current(): Netns {
    return Netns.#of(ownPath, openOwn(), (look) => look());
  }

  static #of(path: string, fd: number, inside: <T>(look: () => T) => T): Netns {
    let rtnl: Rtnetlink | undefined;
    try {
      const { inode } = system.fstat(fd);
      return inside(() => {
        rtnl = new Rtnetlink();
        return new Netns(path, fd, rtnl, { cookie: system.netnsCookie() || undefined, inode });
      });
    } catch (error) {
      // A socket keeps its namespace as a descriptor does: a daemon that lost one would hold a VF that is in there.
      rtnl?.close();
      throw error;
    }
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
    if (this.fd !== own) system.close(this.fd);
  }
}

const ownPath = '/proc/thread-self/ns/net';
/** The namespace that this process began in, and always comes back to; open from its first use to the end. */
let own: number | undefined;

function openOwn(): number {
  return (own ??= system.open(ownPath, system.O_RDONLY));
}

function within<T>(fd: number, path: string, call: () => T): T {
  const home = openOwn();
  enter(fd, path);
  try {
    return call();
  } finally {
    comeHome(home);
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
