import { listAddresses, RT_SCOPE_LINK } from '../kernel/address.ts';
import { modifiedMs } from '../kernel/files.ts';
import type { Link } from '../kernel/link-message.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { lockPath } from './vf-lock.ts';
import type { Host } from './host.ts';
import { devicePath, findDevice, findPf, listVfs, NotUsable, type Pf, type Vf } from './inventory.ts';

/** A PF and, where given, which of its VFs: "ens1f0", "0000:03:00.0", "ens1f0#0-3,7". */
export interface PfSelector {
  readonly pf: string;
  /** Ranges of indices, ends included. */
  readonly ranges?: readonly (readonly [first: number, last: number])[];
}

/** The VFs that a network may use: those of some PFs, or devices that are named one by one. */
export interface Pool {
  readonly pfs: readonly PfSelector[];
  /** PCI addresses of VFs and NICs. */
  readonly devices?: readonly string[] | undefined;
  /** Only VFs with one of these drivers. */
  readonly drivers?: readonly string[] | undefined;
  /** Only VFs that have an RDMA device. */
  readonly needsRdma?: boolean | undefined;
  /** Only the VF with this index. */
  readonly index?: number | undefined;
}

/** Understands the selector form that SR-IOV device plugins use for PF names; undefined if it is none. */
export function parsePfSelector(text: string): PfSelector | undefined {
  const [pf = '', list, ...more] = text.split('#');
  if (!/^[^\s/]+$/.test(pf) || more.length > 0) return undefined;
  if (list === undefined) return { pf };
  const ranges = list.split(',').map((range) => /^(\d+)(?:-(\d+))?$/.exec(range));
  if (!ranges.every((match) => match !== null)) return undefined;
  const numbers = ranges.map(([, first, last]) => [Number(first), Number(last ?? first)] as const);
  return numbers.every(([first, last]) => first <= last) ? { pf, ranges: numbers } : undefined;
}

function isSelected(vf: Vf, pool: Pool, selector: PfSelector): boolean {
  const inRange = selector.ranges?.some(([first, last]) => first <= vf.index && vf.index <= last) ?? true;
  return inRange && (pool.index === undefined || vf.index === pool.index);
}

/** What a pool takes from, for messages. */
export function poolName({ pfs, devices }: Pool): string {
  return devices ? `"devices": ${devices.join(', ')}` : [...new Set(pfs.map(({ pf }) => pf))].join(', ');
}

/**
 * Those of a pool's devices that are there: in a virtual machine they come and go.
 * @throws NotUsable if one cannot serve, or none is there
 */
function devicesOf(sys: Sysfs, devices: readonly string[]): Vf[] {
  const present = devices.filter((pci) => sys.exists(devicePath(pci)));
  if (present.length > 0) return present.map((pci) => findDevice(sys, pci));
  throw new NotUsable(`Cannot find any device of "devices": ${devices.join(', ')}`);
}

/** The PFs of a pool. @throws NotUsable */
export function pfsOf(sys: Sysfs, pool: Pool): { pf: Pf; selector: PfSelector }[] {
  return pool.pfs.map((selector) => ({ pf: findPf(sys, selector.pf), selector }));
}

/**
 * The VFs of a pool in the order in which they are taken: the one unused for longest first, so that a MAC or an address that was just
 * given back has time to be forgotten by the network.
 */
export function candidates(host: Host, pool: Pool): Vf[] {
  const all = pool.devices
    ? devicesOf(host.sys, pool.devices)
    : pfsOf(host.sys, pool).flatMap(({ pf, selector }) =>
        listVfs(host.sys, pf).filter((vf) => isSelected(vf, pool, selector)),
      );
  return all
    .map((vf) => ({ vf, releasedMs: modifiedMs(lockPath(host, vf.pci)) ?? 0 }))
    .sort((a, b) => a.releasedMs - b.releasedMs)
    .map(({ vf }) => vf);
}

/** Why the host itself uses a netdev, so that it must not be taken from a pool; undefined if it does not. */
export async function hostUse(host: Host, link: Link): Promise<string | undefined> {
  const { rtnl } = host.netns;
  if (link.master !== undefined) {
    const upper = host.sys.linkName(`class/net/${link.ifname}/master`);
    return `it is enslaved to ${upper ?? `link ${link.master}`}`;
  }
  const upper = host.sys.list(`class/net/${link.ifname}`).find((name) => name.startsWith('upper_'));
  if (upper !== undefined) return `${upper.slice('upper_'.length)} is built on it`;
  // Link-local addresses come by themselves.
  const address = (await listAddresses(rtnl)).find(
    (a) => a.ifindex === link.ifindex && a.scope !== RT_SCOPE_LINK,
  );
  return address && 'it has an IP address on the host';
}
