import { type DpdkWish, isUserspaceDriver, wrongKind } from '../dpdk/driver.ts';
import { nowMs } from '../kernel/clock.ts';
import type { FileLock } from '../kernel/files.ts';
import { rdmaNames } from '../rdma/rdma-device.ts';
import { listClaims, readClaimOrLog } from '../vf/claims.ts';
import { awaitVf, lockVf } from '../vf/vf-lock.ts';
import { describeHolders, holdersOf } from '../vf/users.ts';
import type { Host } from '../vf/host.ts';
import {
  devicePath,
  findDevice,
  findPf,
  howToCreateVfs,
  isNic,
  NotUsable,
  type Vf,
  vfName,
  wholePf,
} from '../vf/inventory.ts';
import { findOnHost } from '../vf/netdev.ts';
import { nicUse } from '../vf/nic.ts';
import { ownerName } from '../vf/owner.ts';
import { candidates, hostUse, pfsOf, type Pool, poolName } from '../vf/pool.ts';
import { Claimed, Failure } from './failure.ts';
import { refusePfSettings } from './netdev-only.ts';
import { recover } from './recovery.ts';
import type { Caller, Wish } from './wish.ts';

/** A VF that is ours until its lock is given back: no living claim is on it. */
export interface Chosen extends Disposable {
  readonly vf: Vf;
  readonly lock: FileLock;
}

function chosen(vf: Vf, lock: FileLock): Chosen {
  return { vf, lock, [Symbol.dispose]: () => lock[Symbol.dispose]() };
}

/**
 * Finds the VF that a network asks for and takes its lock; a stale claim on it is released first.
 * @throws Failure `bad wish`; `busy` if it is in use, or all of a pool are; NotUsable
 */
export async function choose(host: Host, wish: Wish, caller: Caller): Promise<Chosen> {
  const { device } = wish;
  switch (device?.kind) {
    case 'vf':
      if (!host.sys.exists(devicePath(device.pci))) findDevice(host.sys, device.pci); // says what is wrong
      return take(host, device.pci, caller, () => findDevice(host.sys, device.pci));
    case 'pf': {
      const { pci } = findPf(host.sys, device.pf);
      const pf = await take(host, pci, caller, () => wholePf(findPf(host.sys, device.pf)));
      try {
        await refuseBusyPf(host, pf.vf);
      } catch (error) {
        pf[Symbol.dispose]();
        throw error;
      }
      return pf;
    }
    case 'pool':
      return takeFree(host, device.pool, wish, caller);
    case undefined:
      throw new Failure(
        'bad wish',
        'Invalid network configuration: it names no device: "deviceID" is the PCI address of a VF, usually put there by Multus from a ' +
          'device plugin; "pf" takes a free VF of a PF without one, and "devices" a free one of a list',
      );
  }
}

/**
 * A PF that leaves the host takes the host's own traffic along, and nobody can program or give back its VFs any more.
 * @throws NotUsable; Failure `busy`
 */
export async function refuseBusyPf(host: Host, pf: Vf): Promise<void> {
  const link = await findOnHost(host, pf.pci);
  const use = link && (await hostUse(host, link));
  if (use !== undefined) throw new NotUsable(`${vfName(pf)} cannot go into a pod: the host uses it: ${use}`);
  const claim = listClaims(host)
    .map((pci) => readClaimOrLog(host, pci))
    .find((one) => one && one.vf.pf.pci === pf.pci && one.vf.pci !== pf.pci);
  if (claim)
    throw new Failure(
      'busy',
      `${vfName(pf)} cannot go into a pod: its VF ${claim.vf.pci} belongs to ${ownerName(claim)}`,
    );
}

async function take(host: Host, pci: string, caller: Caller, find: () => Vf): Promise<Chosen> {
  const lock = await awaitVf(host, pci);
  if (!lock) throw new Failure('busy', `${pci} is busy: another process is still working on it`);
  try {
    await recover(host, pci, lock, caller);
    return chosen(find(), lock); // only now: until we had the lock, it could change
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** A claimed VF whose pod is gone and that is not back yet is waited for, because a refused ADD is tried again only after seconds. */
const goingPatienceMs = 2_000;

/**
 * Takes a free VF of a pool. The VF's own lock decides: whoever gets it first has the VF, the others go on to the next one, so there is
 * nothing to wait for. Claimed ones are looked at only when no other is left: their pods may be gone, or just going.
 */
async function takeFree(host: Host, pool: Pool, wish: Wish, caller: Caller): Promise<Chosen> {
  const all = candidates(host, pool);
  refusePfSettings(wish, all);
  const claimed = new Set(listClaims(host));
  const reasons = new Map<string, string>();
  const going = new Set<string>();
  const firstOf = async (
    isNext: (pci: string) => boolean,
    patienceMs: number,
  ): Promise<Chosen | undefined> => {
    const deadline = nowMs() + patienceMs;
    for (const { pci } of all) {
      if (!isNext(pci)) continue;
      const result = await takeIfFree(host, pool, wish.dpdk, pci, caller, Math.max(deadline - nowMs(), 0));
      if (!('why' in result)) return result;
      reasons.set(pci, result.why);
      if (result.isGoing) going.add(pci);
    }
    return undefined;
  };
  const found =
    (await firstOf((pci) => !claimed.has(pci), 0)) ??
    (await firstOf((pci) => claimed.has(pci), 0)) ??
    (await firstOf((pci) => going.has(pci), goingPatienceMs));
  if (!found) throw exhausted(host, pool, all, reasons);
  return found;
}

/** Locks a VF if it is free; else tells why it is not. */
async function takeIfFree(
  host: Host,
  pool: Pool,
  dpdk: DpdkWish | undefined,
  pci: string,
  caller: Caller,
  patienceMs: number,
): Promise<Chosen | { why: string; isGoing?: boolean }> {
  const lock = lockVf(host, pci, 0);
  if (!lock) return { why: 'another process is working on it' };
  try {
    await recover(host, pci, lock, caller, patienceMs);
    const vf = findDevice(host.sys, pci); // only now: a recovery may have changed its driver
    const why = await unfit(host, pool, dpdk, vf);
    if (why === undefined) return chosen(vf, lock);
    lock[Symbol.dispose]();
    return { why };
  } catch (error) {
    lock[Symbol.dispose]();
    if (error instanceof Failure)
      return { why: error.message, isGoing: error instanceof Claimed && error.isGoing };
    throw error;
  }
}

const noRdma = 'it has no RDMA device on the host';

/** Why an unclaimed VF must not be taken; undefined if it may. */
export async function unfit(
  host: Host,
  { drivers, needsRdma }: Pool,
  dpdk: DpdkWish | undefined,
  vf: Vf,
): Promise<string | undefined> {
  const { pci, driver } = vf;
  const wrong = wrongKind(driver, drivers, dpdk);
  if (wrong !== undefined) return wrong;
  if (isUserspaceDriver(driver)) {
    const holders = holdersOf(host.sys, pci);
    return holders.length > 0 ? `${describeHolders(holders)} has it open` : undefined;
  }
  if (driver === undefined && dpdk) return undefined;
  if (needsRdma && rdmaNames(host.sys, pci).length === 0) return noRdma;
  const link = await findOnHost(host, pci);
  if (!link) return `it has no netdev on the host (driver ${driver ?? 'missing'})`;
  return isNic(vf) ? nicUse(host, link) : hostUse(host, link);
}

/** The error of a pool of which no VF can be taken; reasons by PCI address. */
export function exhausted(
  host: Host,
  pool: Pool,
  all: readonly Vf[],
  reasons: ReadonlyMap<string, string>,
): Error {
  const names = poolName(pool);
  if (all.length > 0) {
    if (all.every((vf) => reasons.get(vf.pci) === noRdma))
      return new NotUsable(`No VF of ${names} has an RDMA device on the host, which "rdma": true asks for`);
    const details = all.map((vf) => `${vfName(vf)}: ${reasons.get(vf.pci)}`).join('\n');
    const none = pool.devices ? `None of ${names}` : `No VF of ${names}`;
    return new Failure('busy', `${none} is free: all ${all.length} are in use`, details);
  }
  const pfs = pfsOf(host.sys, pool).map(({ pf }) => pf);
  if (pfs.every((pf) => pf.numVfs === 0))
    return new NotUsable(`Cannot take a VF: ${pfs.map(howToCreateVfs).join('; ')}`);
  return new NotUsable(
    `Cannot take a VF: no VF of ${names} has the index that is asked for; ${pfs.map(howToCreateVfs).join('; ')}`,
  );
}
