import { errnoOf, KernelError } from '../kernel/errno.ts';
import { modprobe } from '../kernel/modprobe.ts';
import { bindDriver, boundDriver, hasDriver, setDriverOverride, unbindDriver } from '../kernel/pci-driver.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { NotUsable, type Vf, vfName } from '../vf/inventory.ts';
import { Unsupported } from '../vf/settings.ts';

/** Kernel drivers that hand a device to a process. */
export const userspaceDrivers = ['vfio-pci', 'uio_pci_generic', 'igb_uio'] as const;
export type UserspaceDriver = (typeof userspaceDrivers)[number];

export function isUserspaceDriver(name: string | undefined): name is UserspaceDriver {
  return userspaceDrivers.some((driver) => driver === name);
}

/** Kernel drivers beside which the poll mode driver works, through verbs: without them it finds no device. */
const bifurcatedDrivers = ['mlx4_core', 'mlx5_core', 'mana'];

/** A network's wish for a VF that userspace drives (key "dpdk"). */
export interface DpdkWish {
  /** Undefined: what the card's poll mode driver works with. */
  readonly driver?: UserspaceDriver | undefined;
  /** Bind it even where the poll mode driver works on the kernel's. */
  readonly force?: boolean | undefined;
}

/**
 * The userspace driver that a VF gets for a pod, or has already; undefined where the kernel's driver stays and the netdev goes into the
 * pod: nobody asked for DPDK, or the poll mode driver works on the kernel's.
 * @throws NotUsable, Unsupported
 */
export function userspaceDriverFor(vf: Vf, wish: DpdkWish | undefined): UserspaceDriver | undefined {
  const { driver } = vf;
  if (isUserspaceDriver(driver)) {
    if (wish?.driver === undefined || wish.driver === driver) return driver;
    throw new NotUsable(
      `${vfName(vf)} is on ${driver}, and the network wants ${wish.driver}: bind it to its kernel driver or to ${wish.driver} first`,
    );
  }
  if (!wish) return undefined;
  if (driver !== undefined && bifurcatedDrivers.includes(driver) && !wish.force) {
    if (wish.driver === undefined) return undefined;
    throw new Unsupported(
      `Cannot bind ${vfName(vf)} to "dpdk.driver": "${wish.driver}": the DPDK driver of this card works on ${driver} and finds no device ` +
        'without it. Use "dpdk": true, or "force": true in "dpdk" if it is for something else than DPDK',
    );
  }
  return wish.driver ?? 'vfio-pci';
}

/** Why a VF with this driver is not of the kind that a pool's network wants; undefined if it is. */
export function wrongKind(
  driver: string | undefined,
  drivers: readonly string[] | undefined,
  wish: DpdkWish | undefined,
): string | undefined {
  if (drivers && !(driver !== undefined && drivers.includes(driver)))
    return `its driver is ${driver ?? 'missing'}, not ${drivers.join(' or ')}`;
  if (!isUserspaceDriver(driver)) return undefined;
  const isWanted = wish ? (wish.driver ?? driver) === driver : drivers !== undefined;
  return isWanted ? undefined : `it is on ${driver}`;
}

/** Makes sure, before anything of the VF is changed, that a userspace driver is there; loads it if need be. @throws NotUsable */
export async function loadDriver(sys: Sysfs, vf: Vf, driver: UserspaceDriver): Promise<void> {
  if (hasDriver(sys, driver)) return;
  const why = await modprobe(driver);
  if (hasDriver(sys, driver)) return;
  throw new NotUsable(
    `Cannot bind ${vfName(vf)} to ${driver}: this kernel does not have that driver (${why}); install its module, or name another ` +
      `"dpdk.driver" of ${userspaceDrivers.join(', ')}`,
  );
}

/**
 * Binds a VF to a userspace driver. The override makes the driver take a device whose IDs it does not know, and keeps all others from it
 * until then; afterwards it would keep the VF from its own driver. bind is used rather than drivers_probe: it answers with the probe's error.
 * @param override what driver_override was before, and is again
 * @throws KernelError
 */
export function bindUserspace(
  sys: Sysfs,
  vf: Vf,
  driver: UserspaceDriver,
  override: string | undefined,
): void {
  const { pci } = vf;
  setDriverOverride(sys, pci, driver);
  if (vf.driver !== undefined) unbindDriver(sys, pci);
  try {
    bindDriver(sys, pci, driver);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    throw new KernelError(`bind ${vfName(vf)} to ${driver}`, errno, "the kernel's log tells why: dmesg");
  }
  const bound = boundDriver(sys, pci);
  if (bound !== driver)
    throw new NotUsable(`${vfName(vf)} is on ${bound ?? 'no driver'} after it was bound to ${driver}`);
  setDriverOverride(sys, pci, override);
}
