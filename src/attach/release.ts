import { nowMs } from '../kernel/clock.ts';
import { type FileLock, removeFile } from '../kernel/files.ts';
import { Phases, tenths } from '../kernel/log.ts';
import type { Claim, PodClaim } from '../vf/claim.ts';
import { removeClaim, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { readDevice, standsAlone } from '../vf/inventory.ts';
import { findOnHost } from '../vf/netdev.ts';
import { ownerFields } from '../vf/owner.ts';
import { Failure, isBusy, messageOf, StillHeld } from './failure.ts';
import { needsInterfaceAtDel } from './ipam-plugin.ts';
import { isOnUserspaceDriver, leavePod, leaveUserspace } from './leave.ts';
import { keepLease, startFreeing } from './lease.ts';
import { resetVf } from './reset.ts';
import { restoreNetdevOf, restoreOverride, restorePf } from './restore.ts';
import type { Caller } from './wish.ts';

/**
 * Gives a claimed VF back, under its lock: the body of DEL, of every rollback and of every recovery. The claim goes last, and only if the
 * VF is as it was. An address that could not be freed does not hold the VF back: the claim then becomes a lease (lease.ts).
 * @returns why the address could not be freed; undefined if all is well
 * @throws StillHeld; Failure `incomplete`, or `busy` where trying again is enough, naming all that could not be undone
 */
export async function release(
  host: Host,
  claim: Claim,
  lock: FileLock,
  caller: Caller,
): Promise<Failure | undefined> {
  const { pci } = claim.vf;
  if (claim.phase !== 'releasing') markReleasing(host, claim);
  const notFreed = await undo(host, claim, lock, caller);
  if (notFreed && claim.version === 1) keepLease(host, claim, lock, notFreed);
  else removeClaim(host, pci, lock);
  return notFreed;
}

/** A hint for whoever finds the claim if we die: without room on the disk the owner's namespace tells the same. */
function markReleasing(host: Host, claim: Claim): void {
  try {
    writeClaim(host, { ...claim, phase: 'releasing' }, false);
  } catch (error) {
    host.log.warning('claim not marked', { vf: claim.vf.pci, error: messageOf(error) });
  }
}

/**
 * Undoes everything that an ADD did or may have done. It looks at what is, not at how far the ADD believed to have come; each step
 * tolerates that there is nothing to undo, and goes on after a failure.
 *
 * Order: the netdev leaves the pod, or the VF its userspace driver, first (nobody may use the VF any more), and the VF is reset where it
 * shall be; then the PF's settings; then the netdev's own MAC, which drivers refuse while the PF has another one. The IPAM plugin, which has
 * started meanwhile, frees the address as soon as nobody can use it, beside the rest. Only "dhcp" frees it before everything else, see
 * {@link needsInterfaceAtDel}.
 * @returns why the address could not be freed
 * @throws StillHeld; Failure `incomplete` or `busy`
 */
export async function undo(
  anyHost: Host,
  claim: Claim,
  lock: FileLock,
  caller: Caller,
): Promise<Failure | undefined> {
  const { pci } = claim.vf;
  // Whoever calls: what is changed here is the claim's attachment.
  const log = anyHost.log.about(ownerFields(claim));
  const host = { ...anyHost, log };
  const begin = nowMs();
  const phases = new Phases();
  phases.end('before');
  const device = independentSteps(host, pci);
  const address = independentSteps(host, pci);

  // After a reboot the VF is as the boot left it, whatever we know of the one before.
  const present = claim.owner.bootId === host.bootId ? readDevice(host.sys, pci) : undefined;
  const vf = present && (await isReplaced(host, claim)) ? undefined : present;
  // What Docker gave, Docker frees.
  const ofPod: PodClaim | undefined = claim.version === 1 ? claim : undefined;
  const isEarly = ofPod !== undefined && needsInterfaceAtDel(ofPod.request);
  using freeing = await address.attempt(() => ofPod && startFreeing(host, ofPod, caller, lock));
  const free = () => address.attempt(() => freeing?.begin());
  const isFreed = () => address.attempt(() => freeing?.finish());
  if (isEarly) {
    await free();
    await isFreed();
  }
  // Before its slaves: nobody can use the address any more, whichever of them goes first.
  if (ofPod?.bond)
    await device.attempt(async () => (await import('./bond.ts')).removeBond(host, ofPod, caller));
  // As long as the VF is in the pod, nothing else may be undone.
  if (vf)
    await (isOnUserspaceDriver(claim, vf)
      ? leaveUserspace(host, claim, vf, lock)
      : leavePod(host, claim, vf, caller));
  const kept = vf && (await device.attempt(() => resetVf(host, claim, vf, lock)));
  phases.end('leave');
  if (!isEarly) await free();
  if (vf) {
    if (!standsAlone(vf)) await device.attempt(() => restorePf(host, claim, vf, kept));
    phases.end('settings');
    await device.attempt(() => restoreNetdevOf(host, claim, vf));
    if (claim.dpdk) await device.attempt(() => restoreOverride(host, claim));
    phases.end('netdev');
  }
  if (!isEarly) await isFreed();
  phases.end('ipam');
  const deviceInfoFile = ofPod?.deviceInfoFile;
  if (deviceInfoFile !== undefined) await device.attempt(() => removeFile(deviceInfoFile));

  if (device.failures.length > 0) throw incomplete(pci, [...device.failures, ...address.failures]);
  log.info('VF given back', { vf: pci, ms: tenths(nowMs() - begin) });
  log.debug('phases in ms', phases.ms);
  const [failure] = address.failures;
  if (failure === undefined) return undefined;
  const message = `VF ${pci} is given back, but its address is not free: ${messageOf(failure)}`;
  const details = failure instanceof Failure ? failure.details : undefined;
  return new Failure('incomplete', message, details, { cause: failure });
}

/** Whether another NIC is where the claim's was: that one is the host's, and none of it is ours to change. */
async function isReplaced(host: Host, { vf, original }: Claim): Promise<boolean> {
  const permMac = original.netdev?.permMac;
  const now = permMac === undefined ? undefined : (await findOnHost(host, vf.pci))?.permMac;
  if (now === undefined || now === permMac) return false;
  host.log.warning('another NIC is in its place', { vf: vf.pci, mac: permMac, newMac: now });
  return true;
}

/** Steps of which each is tried, whatever became of the ones before, and what failed of them. */
function independentSteps(host: Host, pci: string) {
  const failures: unknown[] = [];
  const attempt = async <T>(step: () => Promise<T> | T): Promise<T | undefined> => {
    try {
      return await step();
    } catch (error) {
      if (error instanceof StillHeld) throw error; // then nothing that comes after may be tried
      failures.push(error);
      host.log.error('undo failed', { vf: pci, error: messageOf(error) });
      return undefined;
    }
  };
  return { attempt, failures };
}

function incomplete(pci: string, failures: readonly unknown[]): Failure {
  const kind = failures.every(isBusy) ? 'busy' : 'incomplete';
  return new Failure(kind, `Cannot give back VF ${pci} completely: ${failures.map(messageOf).join('; ')}`);
}
