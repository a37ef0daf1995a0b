import { openPodOf } from '../attach/pod.ts';
import { nowMs } from '../kernel/clock.ts';
import { type EndpointClaim, isUserspace } from '../vf/claim.ts';
import { listClaims, readClaimOrLog, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { findOnHost } from '../vf/netdev.ts';
import { lockVf } from '../vf/vf-lock.ts';
import { endpointsOf } from './dockerd.ts';

/**
 * Before Docker 28, and for a process that drives its VF in all of them, nothing but time tells an endpoint whose container is being started
 * from one that Docker has forgotten (standing.ts), and a start may take long: a hook, a device, a machine that is busy. So Docker is asked,
 * and as long as it has the endpoint its time begins anew.
 */
export async function noteStarting(host: Host, api: string): Promise<void> {
  for (const pci of listClaims(host)) {
    const seen = await startingClaim(host, pci);
    if (!seen) continue;
    const { network, endpointId } = seen.owner;
    const endpoints = await endpointsOf(api, network);
    if (typeof endpoints !== 'object' || !endpoints.has(endpointId)) continue;
    using lock = lockVf(host, pci, 0);
    const claim = lock && (await startingClaim(host, pci)); // until we had the lock, it could change
    if (claim?.owner.endpointId === endpointId) writeClaim(host, { ...claim, phaseMs: nowMs() }, false);
  }
}

async function startingClaim(host: Host, pci: string): Promise<EndpointClaim | undefined> {
  const claim = readClaimOrLog(host, pci);
  if (claim?.version !== 2 || claim.owner.bootId !== host.bootId) return undefined;
  if (claim.phase !== 'lent' && claim.phase !== 'joined') return undefined;
  if (await findOnHost(host, pci)) return claim;
  using sandbox = openPodOf(claim);
  return isUserspace(claim) && !sandbox ? claim : undefined;
}
