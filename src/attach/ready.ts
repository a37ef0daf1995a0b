/** The part of the story that all doors share: a device is taken, and made ready on the host for who asked; and what undoes it if that fails. */
import { bindUserspace, loadDriver } from '../dpdk/driver.ts';
import { vfioDeviceFile } from '../dpdk/iommu.ts';
import type { FileLock } from '../kernel/files.ts';
import type { Link } from '../kernel/link-message.ts';
import type { Phases } from '../kernel/log.ts';
import { driverOverride } from '../kernel/pci-driver.ts';
import { carryMac } from '../vf/carried-mac.ts';
import type { Claim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { isNic, NotUsable, type Vf } from '../vf/inventory.ts';
import { type NetdevState, netdevState } from '../vf/netdev.ts';
import { applySettings, flat } from '../vf/settings.ts';
import { choose } from './choose.ts';
import { Failure, messageOf } from './failure.ts';
import { makePlan, noNetdev, type Plan, refuseUnfit } from './plan.ts';
import { release } from './release.ts';
import type { Caller, Wish } from './wish.ts';

/** A device that is ours until its lock is given back, and what is to be made of it. */
export interface Taken extends Disposable {
  readonly vf: Vf;
  readonly lock: FileLock;
  readonly plan: Plan;
}

/** All devices of an attachment: one, but for a bond. Disposing gives their locks back. */
export interface AllTaken extends Disposable {
  readonly first: Taken;
  readonly second: Taken | undefined;
}

/**
 * Takes a device that fits the wish, and refuses what could not work. Changes nothing but what a stale claim left.
 * @param asker ownerId() of who asks
 * @param ipam the IPAM plugin that is to be asked
 */
export async function takeDevice(
  host: Host,
  wish: Wish,
  asker: string,
  ipam: string | undefined,
  caller: Caller,
  phases: Phases,
): Promise<Taken> {
  const { vf, lock } = await choose(host, wish, caller);
  phases.end('choice');
  try {
    const plan = await makePlan(host, wish, vf);
    await refuseUnfit(host, wish, asker, ipam, vf, plan);
    if (plan.userspace !== undefined) await loadDriver(host.sys, vf, plan.userspace);
    phases.end('plan');
    return { vf, lock, plan, [Symbol.dispose]: () => lock[Symbol.dispose]() };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** What a claim says of the device: what it is like before the first change, and what will be made of it. */
export function recordOf(
  host: Host,
  wish: Wish,
  { vf, plan: { settings, link, userspace, wanted, rdma } }: Taken,
): Pick<Claim, 'since' | 'vf' | 'dpdk' | 'rdma' | 'asked' | 'modes' | 'reset' | 'original'> {
  const driver = userspace ?? (wish.dpdk && (vf.driver ?? ''));
  return {
    since: new Date().toISOString(),
    vf: { pci: vf.pci, index: vf.index, pf: { pci: vf.pf.pci, ifname: vf.pf.ifname } },
    dpdk: driver === undefined ? undefined : { driver, override: driverOverride(host.sys, vf.pci) },
    rdma,
    asked: wanted,
    modes: wish.modes,
    reset: wish.reset,
    original: { driver: vf.driver, settings, netdev: link && originalNetdev(vf, link) },
  };
}

/** The PCI address of a VF says which one it is, but in a NIC's slot there can be another one by the time that it is given back. */
function originalNetdev(vf: Vf, link: Link): NetdevState {
  const state = netdevState(link);
  return isNic(vf) ? { ...state, permMac: link.permMac } : state;
}

/**
 * Programs the PF, and makes the netdev carry its MAC or gives the VF to a userspace driver. Undone by release().
 * @returns the netdev, on the host still; undefined where a process is to drive the VF
 */
export async function makeReady(
  host: Host,
  { vf, plan }: Taken,
  { dpdk, rdma }: Claim,
  phases: Phases,
): Promise<Link | undefined> {
  await programPf(host, vf, plan);
  phases.end('settings');
  const { link, userspace, wanted } = plan;
  if (userspace !== undefined) {
    if (userspace === vf.driver) return undefined;
    const fields = { vf: vf.pci, from: vf.driver, driver: userspace };
    await host.log.change('VF bound to a userspace driver', fields, () =>
      bindUserspace(host.sys, vf, userspace, dpdk?.override),
    );
    const file = vfioDeviceFile(host.sys, vf.pci);
    host.log.info('a container needs its device file', { vf: vf.pci, file });
    return undefined;
  }
  if (!link) throw new NotUsable(noNetdev(vf));
  if (wanted.mac === undefined || wanted.mac === link.mac) return link;
  const around = rdma && (await import('../rdma/rdma-move.ts')).keepingRdma(host, vf.pci, rdma);
  return carryMac(host, vf, link, wanted.mac, around);
}

async function programPf(host: Host, vf: Vf, { pf, wanted }: Plan): Promise<void> {
  if (!pf) return;
  const fields = { vf: vf.pci, pf: vf.pf.ifname, ...flat(wanted) };
  await host.log.change('PF settings programmed', fields, () =>
    applySettings(host.netns.rtnl, pf.ifindex, vf, wanted),
  );
}

/** Undoes what failed on its way. The error stays the first one; what could not be undone is in its details. */
export async function rollBack(
  host: Host,
  claim: Claim,
  lock: FileLock,
  caller: Caller,
  error: unknown,
): Promise<unknown> {
  try {
    await release(host, claim, lock, caller);
    return error;
  } catch (undo) {
    const message = `${messageOf(error)}; and the VF could not be given back: ${messageOf(undo)}`;
    const details = undo instanceof Failure ? undo.details : undefined;
    return new Failure('incomplete', message, details, { cause: error });
  }
}
