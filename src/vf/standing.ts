import { Errno, isErrno, NotANetns } from '../kernel/errno.ts';
import { isSameNetns, Netns } from '../kernel/netns.ts';
import { type Claim, isUserspace } from './claims.ts';
import { describeHolders, holdersOf } from './holders.ts';
import type { Host } from './host.ts';
import { readDevice } from './inventory.ts';
import { awaitOnHost } from './netdev.ts';

/** Whether a claim still stands. Judged under the VF's lock, so whoever made it is not at work on it now. */
export interface Standing {
  /**
   * live: its pod is there. stale: nobody has the VF any more, it can be given back. held: its pod is gone, but something keeps the
   * VF.
   */
  readonly state: 'live' | 'stale' | 'held';
  readonly why: string;
}

/** The pod's namespace, if it is still the one that the VF was attached to; undefined if it is gone. */
export function openPod(claim: Claim): Netns | undefined {
  const { path } = claim.owner.netns;
  if (path === '') return undefined;
  try {
    const netns = Netns.open(path);
    if (isSameNetns(netns.identity, claim.owner.netns)) return netns;
    netns[Symbol.dispose]();
    return undefined;
  } catch (error) {
    if (error instanceof NotANetns || isErrno(error, Errno.ENOENT, Errno.ENOTDIR, Errno.EINVAL))
      return undefined;
    throw error;
  }
}

/** @param patienceMs how long to wait for a VF whose pod's namespace is gone to come back to the host */
export async function standingOf(host: Host, claim: Claim, patienceMs?: number): Promise<Standing> {
  const { owner, phase } = claim;
  if (owner.bootId !== host.bootId) return { state: 'stale', why: 'the machine was restarted' };
  if (phase === 'adding') return { state: 'stale', why: 'the ADD that made it died' };
  if (phase === 'releasing') return { state: 'stale', why: 'giving it back was interrupted' };
  using pod = openPod(claim);
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
