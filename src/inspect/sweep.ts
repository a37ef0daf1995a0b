import { messageOf } from '../attach/failure.ts';
import { collect } from '../attach/collect.ts';
import { ownerName } from '../attach/recovery.ts';
import { printable } from '../kernel/printable.ts';
import { listClaims } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import type { Flags, Outcome } from './usage.ts';

/** `sriov gc`: gives back every VF whose claim is stale. Multus never sends GC for its networks. */
export async function sweep(host: Host, { dryRun, json, env }: Flags): Promise<Outcome> {
  const rows: { vf: string; owner?: string; outcome: string; why: string }[] = [];
  for (const vf of listClaims(host)) {
    try {
      const collected = await collect(host, vf, { env }, () => true, false, dryRun);
      if (collected)
        rows.push({ vf, owner: ownerName(collected.claim), outcome: collected.outcome, why: collected.why });
    } catch (error) {
      rows.push({ vf, outcome: 'failed', why: messageOf(error) });
    }
  }
  const exitCode = rows.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
  if (json) return { exitCode, stdout: `${JSON.stringify(rows)}\n` };
  const would = dryRun ? 'would be ' : '';
  const lines = rows.map(({ vf, owner, outcome, why }) =>
    printable(
      `${vf}  ${outcome === 'given back' ? would : ''}${outcome}: ${owner ? `${owner}: ` : ''}${why}`,
    ),
  );
  return { exitCode, stdout: lines.length > 0 ? `${lines.join('\n')}\n` : 'No VF is claimed\n' };
}
