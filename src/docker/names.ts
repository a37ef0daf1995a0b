import type { EndpointClaim } from '../vf/claim.ts';
import { listClaims, readClaimOrLog, writeClaim } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { containersByEndpoint } from './dockerd.ts';

/**
 * Writes into the claims which container has each VF: no call tells. Whoever lists the VFs then knows it without asking Docker.
 * @returns whether all are known
 */
export async function learnNames(host: Host, api: string): Promise<boolean> {
  const nameless = () => listClaims(host).flatMap((pci) => namelessClaim(host, pci) ?? []);
  if (nameless().length === 0) return true;
  const known = await containersByEndpoint(api);
  if (!known) return false;
  for (const { vf } of nameless()) {
    using lock = lockVf(host, vf.pci, 0);
    const claim = lock && namelessClaim(host, vf.pci); // until we had the lock, it could change
    const found = claim && known.get(claim.owner.endpointId);
    if (claim && found) writeClaim(host, { ...claim, owner: { ...claim.owner, ...found } }, false);
  }
  return nameless().length === 0;
}

function namelessClaim(host: Host, pci: string): EndpointClaim | undefined {
  const claim = readClaimOrLog(host, pci);
  return claim?.version === 2 && claim.phase === 'joined' && !claim.owner.container ? claim : undefined;
}
