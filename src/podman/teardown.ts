import { Failure } from '../attach/failure.ts';
import { release } from '../attach/release.ts';
import type { Attachment, Caller } from '../attach/wish.ts';
import { isOf, listClaims, lockVf, readClaim, readClaimOrLog } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';

/**
 * `teardown`: gives back the VF of a container, from its claim. Podman repeats no teardown, and takes a container that starts again for
 * the same one: should a killed setup have left a second claim of it, that goes, too. Without a claim there is nothing to do.
 */
export async function teardown(
  host: Host,
  { containerId, ifname }: Attachment,
  caller: Caller,
): Promise<void> {
  const failures: unknown[] = [];
  const claimed = listClaims(host).filter((pci) => {
    const claim = readClaimOrLog(host, pci);
    return claim && isOf(claim, containerId, ifname);
  });
  if (claimed.length === 0) host.log.info('nothing to give back');
  for (const pci of claimed) {
    try {
      using lock = lockVf(host, pci);
      if (!lock) throw new Failure('busy', `VF ${pci} is busy: another process is still working on it`);
      // Until we had the lock, somebody else may have given it back, and another container may have got it.
      const claim = readClaim(host, pci);
      if (claim && isOf(claim, containerId, ifname)) await release(host, claim, lock, caller);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
