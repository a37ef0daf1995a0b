import type { FileLock } from '../kernel/files.ts';
import { type Claim, LaterClaim, UnreadableClaim } from '../vf/claim.ts';
import { readClaim, setAside } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { ownerName } from '../vf/owner.ts';
import { Claimed, Failure } from './failure.ts';
import { goPluginNetns } from './go-cache.ts';
import { goLeftovers, recoverGoLeftover } from './go-plugin.ts';
import { release } from './release.ts';
import { standingOf } from './standing.ts';
import type { Caller } from './wish.ts';

/**
 * Makes a VF free that nobody has any more: an ADD that died, a pod that is gone, a machine that was restarted, also where the Go plugin had
 * attached it. Called under the VF's lock. What was done to the VF last is undone first. An address that cannot be freed is logged and kept
 * as a lease.
 * @param patienceMs how long to wait for a VF whose pod is just going
 * @throws Claimed if somebody has the VF; Failure `busy` likewise, `incomplete` if it could not be given back; StillHeld
 */
export async function recover(
  host: Host,
  pci: string,
  lock: FileLock,
  caller: Caller,
  patienceMs?: number,
): Promise<void> {
  const foreign = goPluginNetns(host, pci);
  if (foreign !== undefined)
    throw new Failure('busy', `VF ${pci} belongs to a pod that the Go plugin attached, in "${foreign}"`);
  const claim = readUsableClaim(host, pci);
  const leftovers = goLeftovers(host, pci);
  const claimedMs = claim ? Date.parse(claim.since) : 0;
  for (const made of leftovers)
    if (claim && made.madeMs > claimedMs) await recoverGoLeftover(host, made, lock, caller);
  if (claim) await releaseStale(host, claim, lock, caller, patienceMs);
  for (const made of leftovers)
    if (!claim || made.madeMs <= claimedMs) await recoverGoLeftover(host, made, lock, caller);
}

async function releaseStale(
  host: Host,
  claim: Claim,
  lock: FileLock,
  caller: Caller,
  patienceMs: number | undefined,
): Promise<void> {
  const { pci } = claim.vf;
  const { state, why } = await standingOf(host, claim, patienceMs);
  if (state !== 'stale')
    throw new Claimed(`VF ${pci} belongs to ${ownerName(claim)}: ${why}`, state === 'held');
  host.log.warning('stale claim', { vf: pci, owner: ownerName(claim), why });
  await release(host, claim, lock, caller);
}

/**
 * The claim on a VF, under its lock; one that cannot be read is put aside for the operator.
 * @throws Failure `busy` for one of a later version of this program
 */
export function readUsableClaim(host: Host, pci: string): Claim | undefined {
  try {
    return readClaim(host, pci);
  } catch (error) {
    if (error instanceof LaterClaim)
      throw new Failure('busy', `VF ${pci} is not ours to take: ${error.message}`);
    if (!(error instanceof UnreadableClaim)) throw error;
    const path = setAside(host, pci);
    host.log.error('unreadable claim put aside', { vf: pci, path, error: error.message });
    return undefined;
  }
}
