import { detach } from '../attach/detach.ts';
import { messageOf } from '../attach/failure.ts';
import { runIpam } from '../attach/ipam-plugin.ts';
import type { Host } from '../vf/host.ts';
import { callerOf, ipamCallOf } from './ipam.ts';
import type { Request } from './request.ts';

/**
 * DEL: gives an attachment's VF back. Works without a network namespace, twice, late, and with a
 * stdin that has lost its keys: what counts is the claim. Without one there is nothing of ours to
 * undo; the IPAM plugin, which may still have an address, is asked all the same, but cannot fail the
 * DEL.
 */
export async function del(host: Host, request: Request): Promise<void> {
  if (await detach(host, request.attachment, callerOf(request))) return;
  host.log.info('nothing to give back');
  try {
    const call = ipamCallOf(request);
    if (call) await runIpam('DEL', call);
  } catch (error) {
    // The specification would have us pass this on. But nothing of ours is known to be left, and what
    // fails here fails for ever: a network whose IPAM refused the ADD refuses the DEL, too, Multus' DEL
    // has lost the ranges that the IPAM plugin wants, and a runtime repeats a DEL until it succeeds: the
    // pod would stay Terminating.
    host.log.warning('IPAM plugin not asked to free an address', { error: messageOf(error) });
  }
}
