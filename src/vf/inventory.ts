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

/** A virtual function. */
export interface Vf {
  readonly pci: string;
  readonly pf: Pf;
  /** Its number at the PF: the N of `ip link set PF vf N`. */
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
 * The netdev of a PF itself: in switchdev mode, from Linux 5.8 on, its VFs' representors (phys_port_name "pf0vf3") stand in the same
 * folder; a ConnectX-3 has one netdev per port, of which the first (dev_port 0) programs the VFs.
 */
function pfIfname(sys: Sysfs, pci: string): string | undefined {
  const folder = `${devicePath(pci)}/net`;
  const names = sys.list(folder);
  if (names.length < 2) return names[0];
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
  const pci = parsePci(nameOrPci) ?? sys.linkName(`class/net/${nameOrPci}/device`);
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

/** "VF 3 of PF ens1f0 (0000:01:10.6)" */
export function vfName(vf: Vf): string {
  if (isWholePf(vf)) return `${pfName(vf.pf)} (${vf.pci})`;
  return `VF ${vf.index} of ${pfName(vf.pf)} (${vf.pci})`;
}

/** How to get VFs on a PF that has none (or too few). */
export function howToCreateVfs(pf: Pf): string {
  const device = pf.ifname ? `/sys/class/net/${pf.ifname}/device` : `/sys/bus/pci/devices/${pf.pci}`;
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
  return { pci, pf, index, driver: sys.linkName(`${device}/driver`), ifnames: sys.list(`${device}/net`) };
}

/** Reads the VF at a PCI address; undefined if there is none (any more). */
export function readVf(sys: Sysfs, pci: string): Vf | undefined {
  const pfPci = sys.linkName(`${devicePath(pci)}/physfn`);
  if (pfPci === undefined) return undefined;
  const pf = readPfAt(sys, pfPci);
  const index = vfIndex(sys, pf, pci);
  return index === undefined ? undefined : readVfAt(sys, pf, index, pci);
}

/** The VF at a PCI address. @throws NotUsable with the reason */
export function findVf(sys: Sysfs, pci: string): Vf {
  const vf = readVf(sys, pci);
  if (vf) return vf;
  if (!sys.exists(devicePath(pci)))
    throw new NotUsable(`Cannot find VF ${pci}: no such PCI device on this host`);
  if (sys.exists(`${devicePath(pci)}/sriov_totalvfs`)) {
    throw new NotUsable(
      `Cannot use ${pci} as a VF: it is a physical function; ${howToCreateVfs(readPfAt(sys, pci))}`,
    );
  }
  throw new NotUsable(`Cannot use ${pci} as a VF: it is not a virtual function (it has no physfn)`);
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

export function isWholePf(vf: Vf): boolean {
  return vf.pci === vf.pf.pci;
}

/** Reads what a claim is on: a VF or a whole PF; undefined if it is gone. */
export function readDevice(sys: Sysfs, pci: string): Vf | undefined {
  if (sys.exists(`${devicePath(pci)}/sriov_totalvfs`)) return wholePf(readPfAt(sys, pci));
  return readVf(sys, pci);
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
