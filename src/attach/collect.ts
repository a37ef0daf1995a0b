import { type Claim, LaterClaim } from '../vf/claim.ts';
import { listClaims, readClaim, readClaimOrLog, sweepUnfinished } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { ownerName } from '../vf/owner.ts';
import { messageOf, StillHeld } from './failure.ts';
import { type GoAttachment, listGoAttachments } from './go-cache.ts';
import { goLeftovers, recoverGoLeftover } from './go-plugin.ts';
import { freeLease, listLeases } from './lease.ts';
import { readUsableClaim } from './recovery.ts';
import { release } from './release.ts';
import { standingOf } from './standing.ts';
import type { Caller } from './wish.ts';

/** What became of a claim, of what the Go plugin left, or of a lease. */
export interface Collected {
  /** PCI address of the VF, or the lease's name. */
  readonly what: string;
  /** Undefined where the claim could not be read. */
  readonly owner: string | undefined;
  readonly outcome: 'given back' | 'freed' | 'left alone' | 'failed';
  readonly why: string;
}

/** Which attachments are to go. */
export interface Selection {
  readonly network: string | undefined;
  /** The attachments that are to stay, where that is known for sure: all others go, even if their pods live. */
  readonly valid: readonly { readonly containerID: string; readonly ifname: string }[] | undefined;
}

/** Everything that is stale. */
export const anythingStale: Selection = { network: undefined, valid: undefined };

interface Owned {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** A list of attachments knows nothing of Docker's endpoints, nor do their networks share names. */
function isMeant({ network, valid }: Selection, owner: Owned | Claim['owner']): boolean {
  if ('kind' in owner) return network === undefined && valid === undefined;
  if (network !== undefined && network !== owner.network) return false;
  return !valid?.some(
    ({ containerID, ifname }) => containerID === owner.containerId && ifname === owner.ifname,
  );
}

/**
 * Gives back every VF that nobody has any more, and frees every address that is still to be freed. One that fails does not stop the others.
 * @param isDryRun only tells; changes nothing at all
 */
export async function collectAll(
  host: Host,
  caller: Caller,
  selection: Selection,
  isDryRun = false,
): Promise<Collected[]> {
  if (!isDryRun) sweepUnfinished(host);
  const collected: Collected[] = [];
  const tried = async (what: string, work: () => Promise<Collected | undefined> | Collected | undefined) => {
    try {
      collected.push(...[await work()].flatMap((one) => one ?? []));
    } catch (error) {
      collected.push({ what, owner: undefined, outcome: 'failed', why: messageOf(error) });
    }
  };
  const leases = listLeases(host); // those that come in between have just been tried
  for (const pci of listClaims(host))
    await tried(pci, () => collect(host, pci, caller, selection, selection.valid !== undefined, isDryRun));
  for (const made of listGoAttachments(host))
    if (isMeant(selection, made)) await tried(made.pci, () => collectGo(host, made, caller, isDryRun));
  for (const lease of leases) {
    const { name, claim } = lease;
    if (selection.network !== undefined && selection.network !== claim.owner.network) continue;
    const one = { what: name, owner: ownerName(claim), why: lease.lastError ?? 'its address was not freed' };
    await tried(name, async () => {
      const notFreed = isDryRun ? undefined : await freeLease(host, lease, caller);
      return notFreed ? { ...one, outcome: 'failed', why: notFreed.message } : { ...one, outcome: 'freed' };
    });
  }
  return collected;
}

/**
 * Gives back a claimed VF if its claim is unwanted.
 * @param isSure also if its pod lives
 * @returns undefined if nothing is to be said: there is no such claim
 */
export async function collect(
  host: Host,
  pci: string,
  caller: Caller,
  selection: Selection,
  isSure: boolean,
  isDryRun = false,
): Promise<Collected | undefined> {
  const seen = readClaimOrLog(host, pci);
  if (seen && !isMeant(selection, seen.owner)) return undefined;
  if (isDryRun) return judge(host, pci, isSure);
  using lock = lockVf(host, pci, 0);
  if (!lock) return seen && leaveAlone(host, seen, 'another process is working on it');
  const claim = readUsableClaim(host, pci);
  if (!claim || !isMeant(selection, claim.owner)) return undefined;
  const { isWanted, why } = await verdict(host, claim, isSure);
  if (isWanted) return leaveAlone(host, claim, why);
  host.log.info('stale claim', { vf: pci, owner: ownerName(claim), why });
  try {
    const notFreed = await release(host, claim, lock, caller);
    const what = { what: pci, owner: ownerName(claim) };
    return notFreed
      ? { ...what, outcome: 'failed', why: notFreed.message }
      : { ...what, outcome: 'given back', why };
  } catch (error) {
    if (error instanceof StillHeld) return leaveAlone(host, claim, error.message);
    throw error;
  }
}

/** What would become of a claim. */
async function judge(host: Host, pci: string, isSure: boolean): Promise<Collected | undefined> {
  let claim: Claim | undefined;
  try {
    claim = readClaim(host, pci);
  } catch (error) {
    const outcome = error instanceof LaterClaim ? 'left alone' : 'failed';
    return { what: pci, owner: undefined, outcome, why: messageOf(error) };
  }
  if (!claim) return undefined;
  const { isWanted, why } = await verdict(host, claim, isSure);
  return { what: pci, owner: ownerName(claim), outcome: isWanted ? 'left alone' : 'given back', why };
}

async function verdict(
  host: Host,
  claim: Claim,
  isSure: boolean,
): Promise<{ isWanted: boolean; why: string }> {
  if (isSure) return { isWanted: false, why: 'its attachment is not valid any more' };
  const { state, why } = await standingOf(host, claim);
  return { isWanted: state !== 'stale', why };
}

function leaveAlone(host: Host, claim: Claim, why: string): Collected {
  const owner = ownerName(claim);
  host.log.warning('VF left alone', { vf: claim.vf.pci, owner, why });
  return { what: claim.vf.pci, owner, outcome: 'left alone', why };
}

/** Gives back a VF that a dead pod of the Go plugin left. A living one's is none of ours. */
async function collectGo(
  host: Host,
  made: GoAttachment,
  caller: Caller,
  isDryRun: boolean,
): Promise<Collected | undefined> {
  const { pci, containerId } = made;
  using lock = isDryRun ? undefined : lockVf(host, pci, 0);
  const isLeft = goLeftovers(host, pci).some(({ path }) => path === made.path);
  if (!isLeft || readClaimOrLog(host, pci)) return undefined;
  const one = { what: pci, owner: `container ${containerId}, attached by the Go plugin` };
  if (!isDryRun && !lock) return { ...one, outcome: 'left alone', why: 'another process is working on it' };
  if (lock) await recoverGoLeftover(host, made, lock, caller);
  return { ...one, outcome: 'given back', why: 'its pod is gone' };
}
