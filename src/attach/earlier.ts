import { isSameNetns, type Netns } from '../kernel/netns.ts';
import { isOf } from '../vf/claim.ts';
import { findClaims, readClaim } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { Failure, messageOf } from './failure.ts';
import { release } from './release.ts';
import type { Attachment, Caller } from './wish.ts';

/**
 * Gives back what an attachment had before. Some engines keep a container's id over stop and start, a reboot, and an attempt that was
 * killed, and nobody detaches in between: a container that comes again, in another namespace, has left the one it was in.
 * @param pod the namespace that it is to be attached to now
 * @throws Failure `taken` if it has its device in that very namespace; `busy` if another process is at work on it
 */
export async function giveBackEarlier(
  host: Host,
  { containerId, ifname }: Attachment,
  pod: Netns,
  caller: Caller,
): Promise<void> {
  for (const { vf } of findClaims(host, containerId, ifname)) {
    using lock = lockVf(host, vf.pci);
    if (!lock) throw new Failure('busy', `VF ${vf.pci} is busy: another process is still working on it`);
    const claim = readClaim(host, vf.pci);
    if (!claim || !isOf(claim, containerId, ifname)) continue;
    const { bootId, netns } = claim.owner;
    const isHere = bootId === host.bootId && isSameNetns(pod.identity, netns);
    if (isHere && claim.phase === 'attached')
      throw new Failure('taken', `The container has ${ifname} already: it is VF ${vf.pci}`);
    try {
      await release(host, claim, lock, caller);
    } catch (error) {
      const fields = { vf: vf.pci, error: messageOf(error) };
      host.log.warning('what the container had before is not given back', fields);
    }
  }
}
