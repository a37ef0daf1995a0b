import { type Claim, isOf } from '../vf/claim.ts';
import { findClaims, readClaim, sweepUnfinished } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { FileLock } from '../kernel/files.ts';
import type { Host } from '../vf/host.ts';
import { Failure, messageOf } from './failure.ts';
import { findGoAttachment } from './go-cache.ts';
import { releaseGoAttachment } from './go-plugin.ts';
import { findLeases, freeLease, isHopeless } from './lease.ts';
import { release } from './release.ts';
import type { Attachment, Caller } from './wish.ts';

/**
 * Undoes an attachment: every VF that is claimed for it, ours or the Go plugin's, and every address of it that is still to be freed. All are
 * tried, whatever becomes of the others.
 * @returns false if nobody knows anything of it
 * @throws the first failure
 */
export async function detach(
  host: Host,
  { containerId, ifname }: Attachment,
  caller: Caller,
): Promise<boolean> {
  const isOurs = (claim: Claim) => isOf(claim, containerId, ifname);
  const leases = findLeases(host, containerId, ifname); // before: those of this very call are not tried twice
  const claims = findClaims(host, containerId, ifname);
  const made = findGoAttachment(host, containerId, ifname);
  const failures: Error[] = [];
  const tried = async (pci: string, undoIt: (lock: FileLock) => Promise<Failure | undefined>) => {
    try {
      using lock = lockVf(host, pci);
      if (!lock) throw new Failure('busy', `VF ${pci} is busy: another process is still working on it`);
      const notFreed = await undoIt(lock);
      if (notFreed) failures.push(notFreed);
    } catch (error) {
      failures.push(error instanceof Error ? error : new Error(messageOf(error)));
    }
  };
  for (const { vf } of claims) {
    await tried(vf.pci, async (lock) => {
      // Until we had the lock, another DEL may have given it back, and another pod may have got it.
      const claim = readClaim(host, vf.pci);
      return claim && isOurs(claim) ? release(host, claim, lock, caller) : undefined;
    });
  }
  if (made) await tried(made.pci, (lock) => releaseGoAttachment(host, made, lock, caller));
  for (const lease of leases) {
    const notFreed = await freeLease(host, lease, caller);
    if (notFreed && !isHopeless(lease, caller)) failures.push(notFreed);
  }
  const [first, ...others] = failures;
  for (const other of others) host.log.error('also not undone', { error: messageOf(other) });
  if (first) throw first;
  const isKnown = claims.length > 0 || made !== undefined || leases.length > 0;
  // Its ADD may have been killed while it wrote the claim, or the second one of a bond.
  if (!isKnown || claims.some(({ bond }) => bond)) sweepUnfinished(host);
  return isKnown;
}
