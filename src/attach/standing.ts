import { type Claim, isUserspace } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { readDevice } from '../vf/inventory.ts';
import { awaitOnHost } from '../vf/netdev.ts';
import { describeHolders, holdersOf } from '../vf/users.ts';
import { openPodOf } from './pod.ts';

/** Whether a claim still stands. Judged under the VF's lock, so whoever made it is not at work on it now. */
export interface Standing {
  /**
   * live: its pod is there. stale: nobody has the VF any more, it can be given back. held: its pod is gone, but something keeps the
   * VF.
   */
  readonly state: 'live' | 'stale' | 'held';
  readonly why: string;
}

/** @param patienceMs how long to wait for a VF whose pod's namespace is gone to come back to the host */
export async function standingOf(host: Host, claim: Claim, patienceMs?: number): Promise<Standing> {
  const { owner, phase } = claim;
  if (owner.bootId !== host.bootId) return { state: 'stale', why: 'the machine was restarted' };
  if (phase === 'adding') return { state: 'stale', why: 'the ADD that made it died' };
  if (phase === 'releasing') return { state: 'stale', why: 'giving it back was interrupted' };
  using pod = openPodOf(claim);
  if (pod) return { state: 'live', why: `its pod's network namespace "${owner.netns.path}" exists` };
  const gone = `its pod's network namespace "${owner.netns.path}" is gone`;
  if (!readDevice(host.sys, claim.vf.pci)) return { state: 'stale', why: `${gone}, and so is the VF` };
  if (claim.dpdk) {
    const holders = holdersOf(host.sys, claim.vf.pci);
    if (holders.length > 0)
      return { state: 'held', why: `${gone}, but ${describeHolders(holders)} still has the VF open` };
    if (isUserspace(claim)) return { state: 'stale', why: gone };
  }
  if (await awaitOnHost(host, claim.vf.pci, patienceMs)) return { state: 'stale', why: gone };
  return {
    state: 'held',
    why: `${gone}, but the VF is not back on the host: something still holds that namespace`,
  };
}
