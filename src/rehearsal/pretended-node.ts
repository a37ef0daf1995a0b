/** The system calls of a node that is not there: one PF with one VF, a pod, host-local. */
import { config, result, variables } from '../warm-up.ts';
import { answer, isOnHost, type Namespace } from './pretended-links.ts';

export const pf = '0000:01:00.0';
export const vf = config.deviceID;
const devices = '/sys/bus/pci/devices';

const files = new Map([
  [`${variables.CNI_PATH}/${config.ipam.type}`, ''],
  ['/proc/sys/kernel/random/boot_id', '00000000-0000-4000-8000-000000000000\n'],
  [`${devices}/${pf}/class`, '0x020000\n'],
  [`${devices}/${pf}/sriov_numvfs`, '1\n'],
  [`${devices}/${pf}/sriov_totalvfs`, '7\n'],
  [`${devices}/${pf}/sriov_offset`, '128\n'],
  [`${devices}/${pf}/sriov_stride`, '2\n'],
  [`${devices}/${pf}/net/eth0/ifindex`, '2\n'],
  [`${devices}/${vf}/class`, '0x020000\n'],
  ['/sys/class/net/eth0/ifindex', '2\n'],
]);
/** Of the VF's netdev, while it is on the host. */
const netdevFiles = new Map([
  [`${devices}/${vf}/net/eth1/ifindex`, '3\n'],
  ['/sys/class/net/eth1/ifindex', '3\n'],
]);
const links = new Map([
  [`${devices}/${pf}/driver`, '../../../bus/pci/drivers/igb'],
  [`${devices}/${pf}/virtfn0`, `../${vf}`],
  [`${devices}/${vf}/physfn`, `../${pf}`],
  [`${devices}/${vf}/driver`, '../../../bus/pci/drivers/igbvf'],
  ['/sys/class/net/eth0/device', `../../../${pf}`],
]);

const pathOf = new Map([[0, 'stdin']]);
const answers: Uint8Array[] = [];
let entered: Namespace = 'host';
let lastFd = 2;
let nowMs = 0;

const namespaceOf = (fd: number): Namespace => (pathOf.get(fd) === variables.CNI_NETNS ? 'pod' : 'host');

function open(path: string): number {
  const again = /^\/proc\/self\/fd\/(\d+)$/.exec(path)?.[1];
  pathOf.set(++lastFd, (again && pathOf.get(Number(again))) ?? path);
  return lastFd;
}

function read(path: string): string | undefined {
  return files.get(path) ?? (isOnHost(3) ? netdevFiles.get(path) : undefined);
}

function paths(): string[] {
  return [...files.keys(), ...(isOnHost(3) ? netdevFiles.keys() : []), ...links.keys()];
}

function namesIn(folder: string): string[] | undefined {
  const inside = paths().filter((path) => path.startsWith(`${folder}/`));
  const names = inside.map((path) => path.slice(folder.length + 1).split('/')[0] ?? '');
  return inside.length > 0 ? [...new Set(names)] : undefined;
}

const statOf = (inode: number) => ({ mode: 0o100600, size: 0, inode, rdev: 0, modifiedMs: 0 });

/** Of host-local. */
const ipamAnswer = JSON.stringify({
  cniVersion: result.cniVersion,
  ips: result.ips.map(({ address, gateway }) => ({ address, gateway })),
  routes: result.routes,
});

/** What the next command finds there. */
export function giveStdin(text: string): void {
  files.set('stdin', text);
}

/** What needs an answer to go on; every other call returns undefined. */
const calls: Readonly<Record<string, (...args: never[]) => unknown>> = {
  open,
  memfd: open,
  pipe: () => [open('pipe'), open('pipe')],
  readFile: read,
  readText: (fd: number) => (pathOf.get(fd) === 'stdout' ? ipamAnswer : (read(pathOf.get(fd) ?? '') ?? '')),
  writeText: (fd: number, text: string) => files.set(pathOf.get(fd) ?? '', text),
  rename: (from: string, to: string) => files.set(to, files.get(from) ?? '') && files.delete(from),
  unlink: (path: string) => files.delete(path),
  readFolder: namesIn,
  readlink: (path: string) => links.get(path),
  realpath: (path: string) => links.get(path)?.replace('../../..', devices) ?? path,
  access: (path: string) => paths().some((known) => known === path || known.startsWith(`${path}/`)),
  stat: (path: string) => (read(path) === undefined ? undefined : statOf(1)),
  fstat: (fd: number) => statOf(namespaceOf(fd) === 'pod' ? 2 : 1),
  fstatfs: () => 0x6e736673, // NSFS_MAGIC
  flock: () => true,
  mkdir: () => true,
  spawn: () => 1,
  wait: () => 0,
  setns: (fd: number) => void (entered = namespaceOf(fd)),
  netnsCookie: () => entered,
  busInfo: () => '',
  netlinkOpen: () => open(entered === 'pod' ? variables.CNI_NETNS : ''),
  netlinkSend: (fd: number, bytes: Uint8Array) =>
    void answers.push(...answer(namespaceOf(fd), bytes, namespaceOf)),
  netlinkReceive: () => answers.shift(),
  nowMs: () => (nowMs += 100),
};

/** A call of src/kernel/system.ts. */
export function pretend(name: string, ...args: readonly unknown[]): unknown {
  return calls[name]?.(...(args as never[]));
}
