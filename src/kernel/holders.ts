import { listFolder, lookAt, readFile } from './files.ts';
import { isCharacterDevice, system } from './system.ts';

/** A process that holds something: its id and the name of its program, which the process chooses itself (see printable.ts). */
export interface Holder {
  readonly pid: number;
  readonly program: string;
}

/** Ids of all. They come and go, and some do not let themselves be looked at: then there is nothing to see of them. */
function processes(): number[] {
  return listFolder('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function holder(pid: number): Holder {
  return { pid, program: lookAt(() => readFile(`/proc/${pid}/comm`)?.trim()) ?? '?' };
}

/** "244:0", as sysfs has it, of a character device that a link of /proc leads to. */
function deviceNumber(path: string): string | undefined {
  const stat = lookAt(() => system.stat(path));
  if (!stat || !isCharacterDevice(stat)) return undefined;
  const major = (stat.rdev >>> 8) & 0xfff;
  const minor = (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}

/**
 * Who has which of these character devices ("244:0") open. Told by number, because a container may have its device files under any name
 * below its /dev.
 */
export function holdersOfDevices(numbers: readonly string[]): ReadonlyMap<string, readonly Holder[]> {
  const found = new Map<string, Holder[]>(numbers.map((number) => [number, []]));
  if (numbers.length === 0) return found;
  for (const pid of processes()) {
    const fds = (lookAt(() => listFolder(`/proc/${pid}/fd`)) ?? []).map((fd) => `/proc/${pid}/fd/${fd}`);
    // Only few descriptors lead to /dev, and a stat of one that leads to a dead network mount would hang.
    const devices = fds.filter((fd) => lookAt(() => system.readlink(fd))?.startsWith('/dev/'));
    for (const number of new Set(devices.map(deviceNumber))) found.get(number ?? '')?.push(holder(pid));
  }
  return found;
}

/** A network namespace that something keeps alive. */
export interface HeldNetns {
  /** A path that leads to it. */
  readonly path: string;
  readonly inode: number;
  readonly holders: readonly Holder[];
}

/** Every network namespace that a process is in or that has a name in /run/netns. Those kept by an open file or socket alone are not seen. */
export function listNetns(): HeldNetns[] {
  const found = new Map<number, { path: string; inode: number; holders: Holder[] }>();
  const see = (path: string) => {
    const inode = lookAt(() => system.stat(path))?.inode;
    if (inode === undefined) return undefined;
    const known = found.get(inode) ?? { path, inode, holders: [] };
    found.set(inode, known);
    return known;
  };
  for (const name of lookAt(() => listFolder('/run/netns')) ?? []) see(`/run/netns/${name}`);
  for (const pid of processes()) see(`/proc/${pid}/ns/net`)?.holders.push(holder(pid));
  return [...found.values()];
}
