/**
 * An attachment is made once. Of a netdev the name in the pod is the guard, but a pod can rename it, and a VF under a userspace driver has
 * none: so the claims are looked at.
 */
import type { PodClaim } from '../vf/claim.ts';
import { findClaims } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { Failure } from './failure.ts';
import { findLeases, freeLease } from './lease.ts';
import { recover } from './recovery.ts';
import { standingOf } from './standing.ts';
import type { Attachment, Caller } from './wish.ts';

/**
 * Refuses an attachment that is there already; what is left of one that died or was not wholly undone is cleared away first.
 * @throws Failure `taken`; `busy` if another call is at work on it, or its address cannot be freed
 */
export async function refuseRepeated(
  host: Host,
  { containerId, ifname }: Attachment,
  caller: Caller,
): Promise<void> {
  for (const claim of findClaims(host, containerId, ifname)) {
    const { pci } = claim.vf;
    using lock = lockVf(host, pci, 0);
    if (!lock) throw new Failure('busy', `Another call is at work on ${ifname} of container ${containerId}`);
    const { state } = await standingOf(host, claim);
    if (state === 'live') throw taken(claim);
    await recover(host, pci, lock, caller);
  }
  // The IPAM plugin frees by container and interface: freed later, the address of this attachment would go, too.
  for (const lease of findLeases(host, containerId, ifname)) await freeLease(host, lease, caller);
}

/**
 * Refuses an attachment if another call is making the same one. Called when our claim is on record: whoever comes second sees the other's.
 * @throws Failure `busy`
 */
export function refuseRival(host: Host, { vf, bond, owner: { containerId, ifname } }: PodClaim): void {
  const ours = bond ? [vf.pci, bond.other] : [vf.pci];
  const [rival] = findClaims(host, containerId, ifname, ours);
  if (!rival) return;
  throw new Failure(
    'busy',
    `Another call is attaching ${ifname} of container ${containerId}: it has VF ${rival.vf.pci}`,
  );
}

function taken({ vf, owner: { containerId, ifname } }: PodClaim): Failure {
  return new Failure(
    'taken',
    `Container ${containerId} has an attachment ${ifname} already: VF ${vf.pci}; a DEL undoes it`,
  );
}
