import { runIpam } from '../attach/ipam-plugin.ts';
import { isUserspaceDriver, userspaceDriverFor, wrongKind } from '../dpdk/driver.ts';
import { requireIommu } from '../dpdk/iommu.ts';
import { checkWritable } from '../kernel/files.ts';
import { readClaimOrLog } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { findVf, howToCreateVfs, listPfs, NotUsable, type Vf } from '../vf/inventory.ts';
import { candidates, pfsOf } from '../vf/pool.ts';
import { Unsupported } from '../vf/settings.ts';
import { type NetConf, parseConfig } from './config.ts';
import { Code, CniError } from './errors.ts';
import { ipamCallOf } from './ipam.ts';
import type { Request } from './request.ts';

/**
 * STATUS: could an ADD ever work now? A pool whose VFs are all in use is no reason to say no: the node would go NotReady by being used.
 * @throws CniError 50 with the reason
 */
export function status(host: Host, request: Request): void {
  const conf = parseConfig(request);
  try {
    checkWritable(host.stateDir);
  } catch (error) {
    throw new CniError(
      Code.NotAvailable,
      `Cannot keep state in ${host.stateDir}: ${(error as Error).message}`,
      undefined,
      { cause: error },
    );
  }
  try {
    checkDevice(host, conf);
  } catch (error) {
    if (!(error instanceof NotUsable || error instanceof Unsupported)) throw error;
    throw new CniError(Code.NotAvailable, error.message, undefined, { cause: error });
  }
  const call = conf.hasIpam ? ipamCallOf(request) : undefined;
  if (call) runIpam('STATUS', call);
}

/** @throws NotUsable */
function checkDevice(host: Host, { device, dpdk }: NetConf): void {
  switch (device?.kind) {
    case 'vf':
      checkKind(host, [findVf(host.sys, device.pci)], dpdk, () => undefined);
      return;
    case 'pf':
      pfsOf(host.sys, { pfs: [{ pf: device.pf }] });
      return;
    case 'pool': {
      const pfs = pfsOf(host.sys, device.pool).map(({ pf }) => pf);
      const vfs = candidates(host, device.pool);
      if (vfs.length === 0) throw new NotUsable(`No VF to take: ${pfs.map(howToCreateVfs).join('; ')}`);
      checkKind(host, vfs, dpdk, (driver) => wrongKind(driver, device.pool.drivers, dpdk));
      return;
    }
    case undefined: {
      // A device plugin chooses later; it needs at least one VF.
      const pfs = listPfs(host.sys);
      if (pfs.length === 0) throw new NotUsable('This host has no SR-IOV physical function');
      if (pfs.every((pf) => pf.numVfs === 0))
        throw new NotUsable(`No VF to take: ${pfs.map(howToCreateVfs).join('; ')}`);
    }
  }
}

/** At least one VF must be of the kind that is wanted. @throws NotUsable, Unsupported with the last one's reason */
function checkKind(
  host: Host,
  vfs: readonly Vf[],
  dpdk: NetConf['dpdk'],
  wrong: (driver: string | undefined) => string | undefined,
): void {
  let reason: unknown;
  for (const vf of vfs) {
    const free = { ...vf, driver: driverWhenFree(host, vf) };
    try {
      const why = wrong(free.driver);
      if (why !== undefined) throw new NotUsable(`No VF to take: ${why}`);
      const userspace = userspaceDriverFor(free, dpdk);
      if (userspace === 'vfio-pci' && !isUserspaceDriver(free.driver))
        requireIommu(host.sys, vf, () => false);
      return;
    } catch (error) {
      reason = error;
    }
  }
  throw reason;
}

/** A VF in a DPDK pod has its own driver again when it comes back. */
function driverWhenFree(host: Host, vf: Vf): string | undefined {
  return readClaimOrLog(host, vf.pci)?.original.driver ?? vf.driver;
}
