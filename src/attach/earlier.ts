import { isSameNetns, type Netns } from '../kernel/netns.ts';
import { isOf, listClaims, readClaimOrLog } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { collect } from './collect.ts';
import { Failure, messageOf } from './failure.ts';
import type { Attachment, Caller } from './wish.ts';

/**
 * Gives back what an attachment had before. Some engines keep a container's id over stop and start, a reboot, and an attempt that was
 * killed, and nobody detaches in between: a container that comes again, in another namespace, has left the one it was in.
 * @param pod the namespace that it is to be attached to now
 * @throws Failure `taken` if it has its device in that very namespace
 */
export async function giveBackEarlier(
  host: Host,
  { containerId, ifname }: Attachment,
  pod: Netns,
  caller: Caller,
): Promise<void> {
  for (const pci of listClaims(host)) {
    const claim = readClaimOrLog(host, pci);
    if (!claim || !isOf(claim, containerId, ifname)) continue;
    const { bootId, netns } = claim.owner;
    const isHere = bootId === host.bootId && isSameNetns(pod.identity, netns);
    try {
      const left = await collect(host, pci, caller, (one) => isOf(one, containerId, ifname), !isHere);
      if (left?.outcome !== 'left alone' || !isHere) continue;
    } catch (error) {
      host.log.warning('what the container had before is not given back', {
        vf: pci,
        error: messageOf(error),
      });
      continue;
    }
    throw new Failure('taken', `The container has ${ifname} already: it is VF ${pci}`);
  }
}
