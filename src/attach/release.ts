import { nowMs } from '../kernel/clock.ts';
import { type FileLock, removeFile } from '../kernel/files.ts';
import { Phases, tenths } from '../kernel/log.ts';
import { type Claim, isUserspace, removeClaim, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { isWholePf, readDevice } from '../vf/inventory.ts';
import { Failure, messageOf } from './failure.ts';
import { finishIpam, ipamCall, needsInterfaceAtDel, startIpam } from './ipam-plugin.ts';
import { leavePod, leaveUserspace } from './leave.ts';
import { restoreNetdevOf, restoreOverride, restorePf } from './restore.ts';
import type { Caller } from './wish.ts';

/**
 * Undoes everything that an ADD did or may have done, under the VF's lock: the body of DEL, of every rollback and of every recovery. It
 * looks at what is, not at how far the ADD believed to have come; each step tolerates that there is nothing to undo, and goes on after a
 * failure. The claim goes last, and only if everything was undone.
 *
 * Order: the netdev leaves the pod, or the VF its userspace driver, first (nobody may use the VF any more); then the PF's settings; then
 * the netdev's own MAC, which drivers refuse while the PF has another one; the IPAM plugin frees the address as soon as nobody can use it,
 * beside the rest. Only "dhcp" frees it before everything else, see {@link needsInterfaceAtDel}.
 * @throws StillHeld; Failure `incomplete` naming all that could not be undone
 */
export async function release(anyHost: Host, claim: Claim, lock: FileLock, caller: Caller): Promise<void> {
  const { pci } = claim.vf;
  // Whoever calls: what is changed here is the claim's attachment.
  const log = anyHost.log.about({ containerID: claim.owner.containerId, ifname: claim.owner.ifname });
  const host = { ...anyHost, log };
  const begin = nowMs();
  const phases = new Phases();
  phases.end('before');
  const { attempt, failures } = independentSteps(host, pci);

  if (claim.phase !== 'releasing') writeClaim(host, { ...claim, phase: 'releasing' }, false);
  // After a reboot the VF is as the boot left it, whatever we know of the one before.
  const vf = claim.owner.bootId === host.bootId ? readDevice(host.sys, pci) : undefined;
  const freesEarly = needsInterfaceAtDel(claim.request);
  if (freesEarly) await attempt(() => freeAddress(host, claim, lock, caller)());
  // As long as the VF is in the pod, nothing else may be undone.
  if (vf) await (isUserspace(claim) ? leaveUserspace(host, claim, vf, lock) : leavePod(host, claim, vf));
  phases.end('leave');
  const finishAddress = freesEarly ? undefined : await attempt(() => freeAddress(host, claim, lock, caller));
  if (vf) {
    if (!isWholePf(vf)) await attempt(() => restorePf(host, claim, vf));
    phases.end('settings');
    await attempt(() => restoreNetdevOf(host, claim, vf));
    if (claim.dpdk) await attempt(() => restoreOverride(host, claim));
    phases.end('netdev');
  }
  if (finishAddress) await attempt(finishAddress);
  phases.end('ipam');
  const { deviceInfoFile } = claim;
  if (deviceInfoFile !== undefined) await attempt(() => removeFile(deviceInfoFile));

  if (failures.length > 0) throw incomplete(pci, failures);
  removeClaim(host, pci, lock);
  phases.end('claim');
  log.info('VF given back', { vf: pci, ms: tenths(nowMs() - begin) });
  log.debug('phases in ms', phases.ms);
}

/** Steps of which each is tried, whatever became of the ones before, and what failed of them. */
function independentSteps(host: Host, pci: string) {
  const failures: unknown[] = [];
  const attempt = async <T>(step: () => Promise<T> | T): Promise<T | undefined> => {
    try {
      return await step();
    } catch (error) {
      failures.push(error);
      host.log.error('undo failed', { vf: pci, error: String(error) });
      return undefined;
    }
  };
  return { attempt, failures };
}

function incomplete(pci: string, failures: readonly unknown[]): Failure {
  const left = failures.map(messageOf);
  return new Failure(
    'incomplete',
    `Cannot give back VF ${pci} completely: ${left.join('; ')}`,
    left.join('\n'),
  );
}

/** Starts the IPAM plugin's DEL beside the kernel's work, with the configuration of the ADD; the returned function waits for it. */
function freeAddress(host: Host, claim: Claim, lock: FileLock, caller: Caller): () => void {
  const { containerId, ifname, netns } = claim.owner;
  const call = ipamCall(claim.request, { containerId, ifname, netns: netns.path }, caller);
  if (!call) return () => {};
  const child = startIpam('DEL', call, lock);
  return () => {
    finishIpam('DEL', call, child);
    host.log.info('addresses freed', { vf: claim.vf.pci, ipam: call.plugin });
  };
}
