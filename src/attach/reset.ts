import { boundDriver, hasFlr, resetWithin } from '../kernel/pci-driver.ts';
import type { FileLock } from '../kernel/files.ts';
import { isUserspaceDriver } from '../dpdk/driver.ts';
import type { Claim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { isNic, isWholePf, type Vf, vfName } from '../vf/inventory.ts';
import { awaitSettings, Unsupported, type VfSettings } from '../vf/settings.ts';
import { messageOf, StillHeld } from './failure.ts';
import { isOnUserspaceDriver, unbindVf } from './leave.ts';

/** A reset takes 100 ms, and its device may take a minute to answer again (pci_dev_wait(), drivers/pci/pci.c). */
const resetTimeoutMs = 10_000;

/** @throws Unsupported if the VF cannot be reset alone */
export function refuseNoReset(host: Host, vf: Vf): void {
  if (isWholePf(vf))
    throw new Unsupported(`Cannot keep "reset": true: ${vfName(vf)} would take its VFs along`);
  if (isNic(vf))
    throw new Unsupported(
      `Cannot keep "reset": true: the PF of ${vfName(vf)}, which may have to program it again, is out of sight`,
    );
  if (!hasFlr(host.sys, vf.pci))
    throw new Unsupported(
      `Cannot keep "reset": true: the kernel tells of no function level reset of ${vfName(vf)} (reset_method, Linux 5.15)`,
    );
}

/**
 * Resets a VF between two owners: what the last one left inside it is gone. After a userspace driver that we bound it to always, as far as it
 * can be; else where its network asks for it. It is out of the pod, and nobody has it open.
 *
 * Never under a kernel's driver: its netdev's queues are waited for while the device does not answer (igbvf hangs with the device's lock,
 * and so does whoever touches the VF afterwards). So the driver is unbound first; restoreNetdevOf() binds it again.
 * @returns what the PF had programmed before, which it may have forgotten, but for the MAC (see restorable()); undefined if nothing was reset
 * @throws StillHeld if the driver or the reset does not end; KernelError if the network asked for a reset and the kernel refused it
 */
export async function resetVf(
  host: Host,
  claim: Claim,
  vf: Vf,
  lock: FileLock,
): Promise<VfSettings | undefined> {
  const { sys, log } = host;
  const { pci } = vf;
  if (isWholePf(vf)) return undefined; // its VFs would go with it
  const wasUserspace = isOnUserspaceDriver(claim, vf) && boundDriver(sys, pci) === undefined;
  if (!claim.reset && !(wasUserspace && hasFlr(sys, pci))) return undefined;
  const settings = isNic(vf) ? {} : (await awaitSettings(host, vf)).settings;
  const driver = boundDriver(sys, pci);
  if (driver !== undefined && !isUserspaceDriver(driver))
    await unbindVf(host, vf, driver, 'driver unbound for a reset', lock);
  try {
    const hasEnded = await log.change('VF reset', { vf: pci }, () =>
      resetWithin(sys, pci, resetTimeoutMs, lock.fd),
    );
    if (!hasEnded)
      throw new StillHeld(`${vfName(vf)} is being reset: that has not ended within ${resetTimeoutMs} ms`);
  } catch (error) {
    if (claim.reset || error instanceof StillHeld) throw error;
    log.warning('the VF could not be reset', { vf: pci, error: messageOf(error) });
  }
  return { ...settings, mac: undefined };
}
