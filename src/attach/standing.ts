import { nowMs } from '../kernel/clock.ts';
import { isUserspaceDriver } from '../dpdk/driver.ts';
import { startOf } from '../kernel/process.ts';
import { type Claim, type EndpointClaim, isUserspace, type PodClaim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { readDevice } from '../vf/inventory.ts';
import { awaitOnHost, findInPod, findOnHost } from '../vf/netdev.ts';
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
export function standingOf(host: Host, claim: Claim, patienceMs?: number): Promise<Standing> {
  return claim.version === 1
    ? standingOfPod(host, claim, patienceMs)
    : standingOfEndpoint(host, claim, patienceMs);
}

async function standingOfPod(host: Host, claim: PodClaim, patienceMs: number | undefined): Promise<Standing> {
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

/** How long Docker may take from one call to the next, and to the move of the netdev: before Docker 28 runc is started in between. */
const betweenCallsMs = 120_000;

/**
 * Docker says neither when a container dies with it nor, before it starts, where its namespace is: between CreateEndpoint and the move only
 * the dockerd that asked speaks for the claim. Docker 20.10, 26.1 and 28.5 forget an endpoint without a word over a reboot, a kill of dockerd
 * and whatever happens while this driver is away.
 */
async function standingOfEndpoint(
  host: Host,
  claim: EndpointClaim,
  patienceMs: number | undefined,
): Promise<Standing> {
  const { owner, phase } = claim;
  const { pci } = claim.vf;
  if (owner.bootId !== host.bootId) return { state: 'stale', why: 'the machine was restarted' };
  if (phase === 'adding') return { state: 'stale', why: 'the CreateEndpoint that made it died' };
  if (phase === 'releasing') return { state: 'stale', why: 'giving it back was interrupted' };
  const vf = readDevice(host.sys, pci);
  if (!vf) return { state: 'stale', why: 'the VF is gone' };
  const isRecent = nowMs() - claim.phaseMs < betweenCallsMs;
  const hasLeft = phase === 'leaving' && !isRecent;
  using sandbox = openPodOf(claim);
  const place = `the sandbox "${owner.sandbox?.path}"`;
  if (sandbox && (await findInPod(sandbox, pci, claim.hostIfname))) {
    if (hasLeft) return { state: 'stale', why: `Docker took it from its container, and left it in ${place}` };
    return { state: 'live', why: `its netdev is in ${place}` };
  }
  const starting = phase !== 'leaving' && isRecent && isAlive(owner.dockerd);
  if (await findOnHost(host, pci)) {
    if (starting) return { state: 'live', why: 'Docker is starting its container' };
    return { state: 'stale', why: 'its netdev is on the host, and no container is being started' };
  }
  // In another namespace, in a virtual machine, or driven by a process of the container.
  const holders = holdersOf(host.sys, pci);
  if (sandbox && phase !== 'leaving') return { state: 'live', why: `its container has ${place}` };
  if (holders.length > 0)
    return { state: 'held', why: `its container is gone, but ${describeHolders(holders)} has the VF open` };
  if (vf.driver === undefined || isUserspaceDriver(vf.driver)) {
    if (starting) return { state: 'live', why: 'Docker is starting its container' };
    return { state: 'stale', why: 'its container is gone' };
  }
  if (await awaitOnHost(host, pci, patienceMs)) return { state: 'stale', why: 'its container is gone' };
  return {
    state: 'held',
    why: `its container is gone, but the VF is not back on the host: something still holds ${place}`,
  };
}

/** Whether the dockerd that asked still runs; if nobody could tell which one it was, that is taken for granted. */
function isAlive(dockerd: EndpointClaim['owner']['dockerd']): boolean {
  return dockerd === undefined || startOf(dockerd.pid) === dockerd.started;
}
