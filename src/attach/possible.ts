import { isUserspaceDriver, userspaceDriverFor, wrongKind } from '../dpdk/driver.ts';
import { requireIommu } from '../dpdk/iommu.ts';
import { listClaims, readClaimOrLog } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { findDevice, findPf, howToCreateVfs, listPfs, NotUsable, type Vf, wholePf } from '../vf/inventory.ts';
import { findOnHost } from '../vf/netdev.ts';
import { listNics, nicUse } from '../vf/nic.ts';
import { candidates, pfsOf } from '../vf/pool.ts';
import { unfit } from './choose.ts';
import { Failure } from './failure.ts';
import { refusePfSettings } from './netdev-only.ts';
import { makePlan, refuseUnfit } from './plan.ts';
import { type Wish, wishesOf } from './wish.ts';

/**
 * Could an attachment ever get a device on this machine? One whose VFs are all in use is no reason to say no.
 * @throws NotUsable, Unsupported
 */
export async function refuseNoDevice(host: Host, wish: Wish): Promise<void> {
  for (const one of wishesOf(wish)) await refuseNoSuchDevice(host, one);
  if (wish.bond) refuseTooFew(host, wishesOf(wish));
}

/** A bond of one PF needs two VFs of it. @throws NotUsable */
function refuseTooFew(host: Host, wishes: readonly Wish[]): void {
  const pools = wishes.flatMap(({ device }) => (device?.kind === 'pool' ? [device.pool] : []));
  const vfs = pools.flatMap((pool) => candidates(host, pool).map(({ pci }) => pci));
  if (pools.length < 2 || new Set(vfs).size > 1) return;
  const pfs = new Set(pools.flatMap((pool) => pfsOf(host.sys, pool).map(({ pf }) => howToCreateVfs(pf))));
  throw new NotUsable(`A bond needs two VFs to take: ${[...pfs].join('; ')}`);
}

async function refuseNoSuchDevice(host: Host, wish: Wish): Promise<void> {
  const { device, dpdk } = wish;
  switch (device?.kind) {
    case 'vf': {
      const vf = findDevice(host.sys, device.pci);
      refusePfSettings(wish, [vf]);
      checkKind(host, [vf], dpdk, () => undefined);
      return;
    }
    case 'pf':
      pfsOf(host.sys, { pfs: [{ pf: device.pf }] });
      return;
    case 'pool': {
      const pfs = pfsOf(host.sys, device.pool).map(({ pf }) => pf);
      const vfs = candidates(host, device.pool);
      refusePfSettings(wish, vfs);
      if (vfs.length === 0) throw new NotUsable(`No VF to take: ${pfs.map(howToCreateVfs).join('; ')}`);
      checkKind(host, vfs, dpdk, (driver) => wrongKind(driver, device.pool.drivers, dpdk));
      return;
    }
    case undefined: {
      // A device plugin chooses later; it needs at least one device.
      const pfs = listPfs(host.sys);
      if (pfs.some((pf) => pf.numVfs > 0) || (await hasNic(host))) return;
      if (pfs.length === 0)
        throw new NotUsable('This host has no SR-IOV physical function, and no NIC that it could spare');
      throw new NotUsable(`No VF to take: ${pfs.map(howToCreateVfs).join('; ')}`);
    }
  }
}

/** Whether there is a NIC that the host does not use itself; one that is in a pod is none of its own. */
async function hasNic(host: Host): Promise<boolean> {
  for (const { pci } of listNics(host.sys)) {
    const link = await findOnHost(host, pci);
    if (!link || (await nicUse(host, link)) === undefined) return true;
  }
  return false;
}

/** At least one VF must be of the kind that is wanted. @throws NotUsable, Unsupported with the last one's reason */
function checkKind(
  host: Host,
  vfs: readonly Vf[],
  dpdk: Wish['dpdk'],
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

/**
 * Refuses a network whose attachments could not work on this machine, as far as can be told while nobody attaches: with what a free device
 * of its shows, if there is one.
 * @throws Failure `bad wish`; NotUsable, Unsupported
 */
export async function refuseImpossible(host: Host, wish: Wish): Promise<void> {
  await refuseNoDevice(host, wish);
  const vf = await freeDevice(host, wish);
  if (!vf) return;
  const plan = await makePlan(host, wish, vf);
  try {
    await refuseUnfit(host, wish, '', undefined, vf, plan);
  } catch (error) {
    if (!(error instanceof Failure && error.kind === 'busy')) throw error; // that can be over when somebody attaches
  }
}

async function freeDevice(host: Host, { device, dpdk }: Wish): Promise<Vf | undefined> {
  const claimed = listClaims(host);
  const isFree = ({ pci }: Vf) => !claimed.includes(pci);
  switch (device?.kind) {
    case 'vf':
      return [findDevice(host.sys, device.pci)].find(isFree);
    case 'pf':
      return [wholePf(findPf(host.sys, device.pf))].find(isFree);
    case 'pool':
      for (const vf of candidates(host, device.pool).filter(isFree))
        if ((await unfit(host, device.pool, dpdk, vf)) === undefined) return vf;
      return undefined;
    case undefined:
      return undefined;
  }
}
