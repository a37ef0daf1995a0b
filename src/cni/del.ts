import { Failure, messageOf } from '../attach/failure.ts';
import { delGoAttachment } from '../attach/go-plugin.ts';
import { runIpam } from '../attach/ipam-plugin.ts';
import { release } from '../attach/release.ts';
import { findClaim, isOf, lockVf, readClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { parsePci } from '../vf/inventory.ts';
import { callerOf, ipamCallOf, ipamRequest } from './ipam.ts';
import type { Request } from './request.ts';

/**
 * DEL: gives an attachment's VF back. Works without a network namespace, twice, late, and with a
 * stdin that has lost its keys: what counts is the claim. Without one there is nothing of ours to
 * undo; the IPAM plugin, which may still have an address, is asked all the same, but cannot fail the
 * DEL.
 */
export async function del(host: Host, request: Request): Promise<void> {
  const { attachment, config } = request;
  const caller = callerOf(request);
  const hints = [config['deviceID'], config['pciBusID']].flatMap((value) =>
    typeof value === 'string' ? (parsePci(value) ?? []) : [],
  );
  const found = findClaim(host, attachment.containerId, attachment.ifname, hints);
  if (found) {
    using lock = lockVf(host, found.vf.pci);
    if (!lock)
      throw new Failure('busy', `VF ${found.vf.pci} is busy: another process is still working on it`);
    // Until we had the lock, another DEL may have given it back, and another pod may have got it.
    const claim = readClaim(host, found.vf.pci);
    if (claim && isOf(claim, attachment.containerId, attachment.ifname))
      return await release(host, claim, lock, caller);
  }
  if (!found && (await delGoAttachment(host, attachment, ipamRequest(request), caller))) return;
  host.log.info('nothing to give back', { hasClaim: found !== undefined });
  try {
    const call = ipamCallOf(request);
    if (call) runIpam('DEL', call);
  } catch (error) {
    // Where there was a VF, its address went with it. Multus' DEL has lost the ranges that the IPAM
    // plugin wants, and a runtime repeats a DEL until it succeeds: the pod would stay Terminating for
    // ever.
    host.log.warning('IPAM plugin not asked to free an address', { error: messageOf(error) });
  }
}
