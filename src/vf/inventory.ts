import type { Link } from '../kernel/link-message.ts';
import type { Sysfs } from '../kernel/sysfs.ts';

/** A physical function: an SR-IOV card's port as the host sees it. Its PCI address is its identity; names change. */
export interface Pf {
  readonly pci: string;
  /** Name of its netdev; undefined while it has none in the host's namespace. */
  readonly ifname: string | undefined;
  readonly driver: string | undefined;
  /** VFs that exist, and that the card can have. */
  readonly numVfs: number;
  readonly totalVfs: number;
}

/** A virtual function, or what stands in its place: a PF itself, or a NIC, which are then their own `pf`. */
export interface Vf {
  readonly pci: string;
  readonly pf: Pf;
  /** Its number at the PF: the N of `ip link set PF vf N`; -1 for a PF itself and a NIC. */
  readonly index: number;
  /** undefined: no driver bound */
  readonly driver: string | undefined;
  /** Names of its netdevs in the host's namespace: none in a pod or under a userspace driver, two on a ConnectX-3. */
  readonly ifnames: readonly string[];
}

/** A VF or PF that does not exist or cannot serve. */
export class NotUsable extends Error {
  override readonly name = 'NotUsable';
}

const pciPattern = /^([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i;

/** "0000:01:10.0" in sysfs form, from any usual form; undefined if it is none. */
export function parsePci(text: string): string | undefined {
  if (!pciPattern.test(text)) return undefined;
  const pci = text.toLowerCase();
  return pci.split(':').length === 2 ? `0000:${pci}` : pci;
}

export function devicePath(pci: string): string {
  return `bus/pci/devices/${pci}`;
}

/**
 * Names of a function's netdevs in the host's namespace. Between a virtio device's function and its netdev there is one of the bus "virtio":
 * FUNCTION/virtio3/net/eth0.
 */
export function netdevNames(sys: Sysfs, pci: string): readonly string[] {
  const device = devicePath(pci);
  const names = sys.list(`${device}/net`);
  if (names.length > 0 || sys.linkName(`${device}/driver`) !== 'virtio-pci') return names;
  const below = sys.list(device).filter((name) => /^virtio\d+$/.test(name));
  return below.flatMap((name) => sys.list(`${device}/${name}/net`));
}

/**
 * The PCI function of a netdev's parent device, as the kernel and sysfs name it: itself, or the one that a virtio device is on. Anything
 * else (USB) stays what it is.
 */
function functionOf(sys: Sysfs, parentDev: string): string | undefined {
  return /^virtio\d+$/.test(parentDev) ? sys.linkFolder(`bus/virtio/devices/${parentDev}`) : parentDev;
}

/**
 * Whether a link on the host is a netdev of this PCI function. Between a look into sysfs and one at the link of that name, the name can have
 * gone to another: udev renames. Before Linux 5.14 the kernel does not say, and is believed.
 */
export function isNetdevOf(sys: Sysfs, pci: string, { parentDevName }: Link): boolean {
  return parentDevName === undefined || functionOf(sys, parentDevName) === pci;
}

/** The PCI function behind a netdev on the host. */
export function functionBehind(sys: Sysfs, ifname: string): string | undefined {
  const parentDev = sys.linkName(`class/net/${ifname}/device`);
  return parentDev && functionOf(sys, parentDev);
}

/**
 * The netdev of a PF itself: in switchdev mode, from Linux 5.8 on, its VFs' representors (phys_port_name "pf0vf3") stand in the same
 * folder; a ConnectX-3 has one netdev per port, of which the first (dev_port 0) programs the VFs.
 */
function pfIfname(sys: Sysfs, pci: string): string | undefined {
  const names = netdevNames(sys, pci);
  if (names.length < 2) return names[0];
  const folder = `${devicePath(pci)}/net`;
  return names
    .filter((name) => !/^pf\d+(vf|sf)\d+$/.test(sys.read(`${folder}/${name}/phys_port_name`) ?? ''))
    .map((name) => ({ name, port: sys.readNumber(`${folder}/${name}/dev_port`) ?? 0 }))
    .sort((a, b) => a.port - b.port)[0]?.name;
}

function readPfAt(sys: Sysfs, pci: string): Pf {
  const device = devicePath(pci);
  return {
    pci,
    ifname: pfIfname(sys, pci),
    driver: sys.linkName(`${device}/driver`),
    numVfs: sys.readNumber(`${device}/sriov_numvfs`) ?? 0,
    totalVfs: sys.readNumber(`${device}/sriov_totalvfs`) ?? 0,
  };
}

/** All PFs of the machine, by PCI address. */
export function listPfs(sys: Sysfs): Pf[] {
  return sys
    .list('bus/pci/devices')
    .filter((pci) => sys.exists(`${devicePath(pci)}/sriov_totalvfs`))
    .map((pci) => readPfAt(sys, pci))
    .filter((pf) => pf.totalVfs > 0);
}

/** Finds a PF by its netdev's name or its PCI address. @throws NotUsable */
export function findPf(sys: Sysfs, nameOrPci: string): Pf {
  const pci = parsePci(nameOrPci) ?? functionBehind(sys, nameOrPci);
  if (pci === undefined)
    throw new NotUsable(`Cannot find PF "${nameOrPci}": no such network interface on this host`);
  if (!sys.exists(devicePath(pci)))
    throw new NotUsable(`Cannot find PF "${nameOrPci}": no such PCI device on this host`);
  const pf = readPfAt(sys, pci);
  if (pf.totalVfs === 0)
    throw new NotUsable(`Cannot use "${nameOrPci}" as a PF: ${pci} is not an SR-IOV physical function`);
  return pf;
}

/** "PF ens1f0", or by its PCI address while it has no netdev. */
export function pfName(pf: Pf): string {
  return `PF ${pf.ifname ?? pf.pci}`;
}

/** "VF 3 of PF ens1f0 (0000:01:10.6)", "NIC eth2 (0000:02:00.0)" */
export function vfName(vf: Vf): string {
  if (isWholePf(vf)) return `${pfName(vf.pf)} (${vf.pci})`;
  if (isNic(vf)) return `NIC ${vf.pf.ifname === undefined ? vf.pci : `${vf.pf.ifname} (${vf.pci})`}`;
  return `VF ${vf.index} of ${pfName(vf.pf)} (${vf.pci})`;
}

/** How to get VFs on a PF that has none (or too few). */
export function howToCreateVfs(pf: Pf): string {
  const hasShortPath = pf.ifname !== undefined && pf.driver !== 'virtio-pci';
  const device = hasShortPath ? `/sys/class/net/${pf.ifname}/device` : `/sys/bus/pci/devices/${pf.pci}`;
  return `${pfName(pf)} has ${pf.numVfs} VFs of ${pf.totalVfs}: echo N > ${device}/sriov_numvfs`;
}

/** Bus, device and function as the number the PCI specification calls routing ID. */
function routingId(pci: string): number {
  const [bus = '', slot = ''] = pci.split(':').slice(-2);
  const [device = '', fn = ''] = slot.split('.');
  return (Number.parseInt(bus, 16) << 8) | (Number.parseInt(device, 16) << 3) | Number.parseInt(fn, 16);
}

/** The N whose `virtfnN` leads to the VF. SR-IOV specification 2.1.2: routing ID = that of the PF + offset + N * stride. */
function vfIndex(sys: Sysfs, pf: Pf, pci: string): number | undefined {
  const device = devicePath(pf.pci);
  const leadsToVf = (n: number) => sys.linkName(`${device}/virtfn${n}`) === pci;
  const offset = sys.readNumber(`${device}/sriov_offset`);
  const stride = sys.readNumber(`${device}/sriov_stride`);
  if (offset !== undefined && stride) {
    const n = (routingId(pci) - routingId(pf.pci) - offset) / stride;
    if (Number.isInteger(n) && n >= 0 && leadsToVf(n)) return n;
  }
  for (let n = 0; n < pf.numVfs; n++) if (leadsToVf(n)) return n;
  return undefined;
}

function readVfAt(sys: Sysfs, pf: Pf, index: number, pci: string): Vf {
  const device = devicePath(pci);
  return { pci, pf, index, driver: sys.linkName(`${device}/driver`), ifnames: netdevNames(sys, pci) };
}

/** Reads the VF at a PCI address; undefined if there is none (any more). */
export function readVf(sys: Sysfs, pci: string): Vf | undefined {
  const pfPci = sys.linkName(`${devicePath(pci)}/physfn`);
  if (pfPci === undefined) return undefined;
  const pf = readPfAt(sys, pfPci);
  const index = vfIndex(sys, pf, pci);
  return index === undefined ? undefined : readVfAt(sys, pf, index, pci);
}

/** Whether its class is PCI's base class of network controllers; undefined if it cannot be read. */
function isNetworkFunction(sys: Sysfs, pci: string): boolean | undefined {
  return sys.read(`${devicePath(pci)}/class`)?.startsWith('0x02');
}

/**
 * Reads the NIC at a PCI address: a network function with no PF above it that this machine sees, and no VFs of its own. A VF that was passed
 * into this virtual machine, or an ordinary card. Undefined if it is none.
 */
export function readNic(sys: Sysfs, pci: string): Vf | undefined {
  const device = devicePath(pci);
  // A VF whose PF does not list it has a PF all the same.
  if (!isNetworkFunction(sys, pci) || sys.exists(`${device}/physfn`)) return undefined;
  const nic = wholePf(readPfAt(sys, pci));
  return isNic(nic) ? nic : undefined;
}

/** The VF or NIC at a PCI address. @throws NotUsable with the reason */
export function findDevice(sys: Sysfs, pci: string): Vf {
  const found = readVf(sys, pci) ?? readNic(sys, pci);
  if (found) return found;
  if (!sys.exists(devicePath(pci)))
    throw new NotUsable(`Cannot find device ${pci}: no such PCI device on this host`);
  const pf = readPfAt(sys, pci);
  if (pf.totalVfs > 0)
    throw new NotUsable(`Cannot use ${pci} as a VF: it is a physical function; ${howToCreateVfs(pf)}`);
  throw new NotUsable(`Cannot use ${pci}: it is neither a virtual function nor another network device`);
}

/** A PF that goes into a pod itself, in the place of a VF. It has no index and nothing that a PF would program for it. */
export function wholePf(pf: Pf): Vf {
  return {
    pci: pf.pci,
    pf,
    index: -1,
    driver: pf.driver,
    ifnames: pf.ifname === undefined ? [] : [pf.ifname],
  };
}

/** Whether there is no PF above it: a PF itself, or a NIC. */
export function standsAlone(vf: Vf): boolean {
  return vf.pci === vf.pf.pci;
}

export function isWholePf(vf: Vf): boolean {
  return standsAlone(vf) && vf.pf.totalVfs > 0;
}

export function isNic(vf: Vf): boolean {
  return standsAlone(vf) && vf.pf.totalVfs === 0;
}

/**
 * Reads what a claim is on: a VF, a whole PF or a NIC; undefined if it is gone, and perhaps another kind of device in its place.
 * @throws NotUsable if it is there and cannot be read: who took it for gone would leave it with the settings of its pod
 */
export function readDevice(sys: Sysfs, pci: string): Vf | undefined {
  if (sys.exists(`${devicePath(pci)}/sriov_totalvfs`)) return wholePf(readPfAt(sys, pci));
  const found = readVf(sys, pci) ?? readNic(sys, pci);
  if (!found && sys.exists(devicePath(pci)) && isNetworkFunction(sys, pci) !== false)
    throw new NotUsable(`Cannot use ${pci}: it is there, but neither its PF nor its kind can be read`);
  return found;
}

/** All VFs of a PF in the order of their index. */
export function listVfs(sys: Sysfs, pf: Pf): Vf[] {
  const vfs: Vf[] = [];
  for (let index = 0; index < pf.numVfs; index++) {
    const pci = sys.linkName(`${devicePath(pf.pci)}/virtfn${index}`);
    if (pci !== undefined) vfs.push(readVfAt(sys, pf, index, pci));
  }
  return vfs;
}
