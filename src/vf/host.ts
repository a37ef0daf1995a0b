import { readFile } from '../kernel/files.ts';
import type { Log } from '../kernel/log.ts';
import { Netns } from '../kernel/netns.ts';
import { Sysfs } from '../kernel/sysfs.ts';

/** The machine as this program sees it: values, so that a test can hand in another one. */
export interface Host {
  readonly sys: Sysfs;
  /** The host's network namespace. */
  readonly netns: Netns;
  /** Folder of claims and locks: /var/lib/cni/sriov. */
  readonly stateDir: string;
  /** Changes with every boot (/proc/sys/kernel/random/boot_id). */
  readonly bootId: string;
  readonly log: Log;
}

/** The machine that this program runs on. */
export function thisHost(log: Log): Host {
  const bootId = readFile('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return { sys: new Sysfs(), netns: Netns.current(), stateDir: '/var/lib/cni/sriov', bootId, log };
}
