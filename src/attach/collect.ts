import { type Claim, lockVf } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { StillHeld } from './failure.ts';
import { ownerName, readUsableClaim } from './recovery.ts';
import { release } from './release.ts';
import { standingOf } from './standing.ts';
import type { Caller } from './wish.ts';

/** What became of a claim. */
export interface Collected {
  readonly claim: Claim;
  readonly outcome: 'given back' | 'left alone';
  readonly why: string;
}

/**
 * Gives back a claimed VF if its claim is unwanted.
 * @param isSure unwanted claims go even if their pods live; else only stale ones do
 * @returns undefined if nothing is to be said: there is no such claim
 */
export async function collect(
  host: Host,
  pci: string,
  caller: Caller,
  isUnwanted: (claim: Claim) => boolean,
  isSure: boolean,
  isDryRun = false,
): Promise<Collected | undefined> {
  const seen = readUsableClaim(host, pci);
  if (!seen || !isUnwanted(seen)) return undefined;
  using lock = lockVf(host, pci, 0);
  if (!lock) return { claim: seen, outcome: 'left alone', why: 'another process is working on it' };
  const claim = readUsableClaim(host, pci);
  if (!claim || !isUnwanted(claim)) return undefined;
  const { state, why } = isSure
    ? { state: 'stale', why: 'its attachment is not valid any more' }
    : await standingOf(host, claim);
  const owner = ownerName(claim);
  const leaveAlone = (reason: string): Collected => {
    host.log.warning('VF left alone', { vf: pci, owner, why: reason });
    return { claim, outcome: 'left alone', why: reason };
  };
  if (state !== 'stale') return leaveAlone(why);
  host.log.info('stale claim', { vf: pci, owner, why });
  try {
    if (!isDryRun) await release(host, claim, lock, caller);
  } catch (error) {
    if (error instanceof StillHeld) return leaveAlone(error.message);
    throw error;
  }
  return { claim, outcome: 'given back', why };
}
