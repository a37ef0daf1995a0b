/** The lock of a VF: whoever changes it or its claim has it. */
import { nowMs } from '../kernel/clock.ts';
import { FileLock, inFolder } from '../kernel/files.ts';
import type { Host } from './host.ts';

/** How long another process may keep a VF: an ADD can wait for a DHCP server. */
const lockTimeoutMs = 60_000;

/**
 * Takes the lock of a VF. It lies where the Go plugin has its own, so that both exclude each other on a node that changes from one to
 * the other. Its file stays; the time of its last change is when the VF was last given back.
 * @returns undefined if somebody else kept it for timeoutMs
 */
export function lockVf(host: Host, pci: string, timeoutMs = lockTimeoutMs): FileLock | undefined {
  return inFolder(`${host.stateDir}/pci/vf_lock`, () => FileLock.take(lockPath(host, pci), timeoutMs));
}

/** How often a lock is tried that somebody else has. */
const lockPauseMs = 10;

/**
 * Like {@link lockVf}, for where several calls run beside each other in one process: who waits for a lock lets the others go on, which may
 * have it.
 */
export async function awaitVf(
  host: Host,
  pci: string,
  timeoutMs = lockTimeoutMs,
): Promise<FileLock | undefined> {
  const deadline = nowMs() + timeoutMs;
  for (;;) {
    const lock = lockVf(host, pci, 0);
    if (lock || nowMs() > deadline) return lock;
    await new Promise((resolve) => setTimeout(resolve, lockPauseMs));
  }
}

/** Path of a VF's lock file, whose last change is when the VF was last given back. */
export function lockPath(host: Host, pci: string): string {
  return `${host.stateDir}/pci/vf_lock/${pci}.lock`;
}
