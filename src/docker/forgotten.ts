import { anythingStale, collect } from '../attach/collect.ts';
import { messageOf } from '../attach/failure.ts';
import type { Caller } from '../attach/wish.ts';
import { listClaims, readClaimOrLog, sweepUnfinished } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';

/**
 * Gives back the VFs of Docker's that nobody has any more. Docker forgets endpoints without a word: over a reboot, when it was killed, and
 * whenever this driver was away.
 */
export async function giveBackForgotten(host: Host, caller: Caller): Promise<void> {
  sweepUnfinished(host);
  for (const pci of listClaims(host)) {
    try {
      if (readClaimOrLog(host, pci)?.version !== 2) continue;
      const seen = await collect(host, pci, caller, anythingStale, false, true);
      if (seen?.outcome === 'given back') await collect(host, pci, caller, anythingStale, false);
    } catch (error) {
      host.log.error('not swept', { vf: pci, error: messageOf(error) });
    }
  }
}
