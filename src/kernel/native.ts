import { loadAddon } from './addon.ts';
import { KernelError } from './errno.ts';

/** A layer 3 packet for {@link Native.announce}. */
export interface Frame {
  /** EtherType: 0x0806 or 0x86dd. */
  readonly protocol: number;
  /** Destination MAC address, 6 bytes. */
  readonly to: Uint8Array;
  /** At most 128 bytes. */
  readonly bytes: Uint8Array;
}

/** The system calls that Node has no call for (native/sriov.c). All are synchronous and throw {@link KernelError}. */
export interface Native {
  /** The main thread enters the network namespace of this descriptor. Synchronous file calls follow it, the thread pool does not. */
  setns(fd: number): void;
  /** Identity of the current network namespace, unique until reboot; "" before Linux 5.14. */
  netnsCookie(): string;
  /** Bus address of a link of the current namespace as its driver tells it; "" for a link without one. */
  busInfo(ifname: string): string;
  /** Takes an exclusive lock; false if somebody else kept it for timeoutMs (0: do not wait). */
  flock(fd: number, timeoutMs: number): boolean;
  /** An anonymous file, closed on exec. */
  memfd(name: string): number;
  /** Starts a program that is killed when we die. keptFds stay open in it under their numbers, stderr is ours. Returns its pid. */
  spawn(
    file: string,
    argv: readonly string[],
    env: readonly string[],
    stdinFd: number,
    stdoutFd: number,
    keptFds: readonly number[],
  ): number;
  /**
   * A child writes the text to a file and exits with 0 or the error number; it keeps only keptFd open. For kernel files whose write may
   * block where no signal reaches. Returns its pid.
   */
  writeInChild(path: string, text: string, keptFd: number): number;
  /** Exit code of a child, 128 + signal, or -1 if it still runs after timeoutMs (negative: no limit). */
  wait(pid: number, timeoutMs: number): number;
  /** Asks for the kernel's error texts on our netlink socket with this port. */
  extendedAck(port: number): void;
  /**
   * Sends the packets on a link of the current namespace: now if it has carrier (true), else in the background as soon as it has, for
   * at most patienceMs (false). A background process has the last of the socket, because the kernel takes its time to close one.
   */
  announce(ifname: string, ifindex: number, frames: readonly Frame[], patienceMs: number): boolean;
  /** Ends the process at once: without teardown, so everything must have been written synchronously. */
  exit(code: number): never;
}

function isRefusal(error: unknown): error is { syscall: string; errno: number } {
  return typeof error === 'object' && error !== null && 'syscall' in error && 'errno' in error;
}

function checked<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      throw isRefusal(error) ? new KernelError(`call ${error.syscall}()`, error.errno) : error;
    }
  };
}

const calls = loadAddon('sriov') as Record<string, (...args: unknown[]) => unknown>;

export const native = Object.fromEntries(
  Object.entries(calls).map(([name, call]) => [name, checked(call)]),
) as unknown as Native;
