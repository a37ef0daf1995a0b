import { anythingStale, collectAll } from '../attach/collect.ts';
import { printable } from '../kernel/printable.ts';
import type { Host } from '../vf/host.ts';
import type { Flags, Outcome } from './usage.ts';

/** `sriov gc`: gives back every VF that nobody has any more. Multus never sends GC for its networks. */
export async function sweep(host: Host, { dryRun, json, env }: Flags): Promise<Outcome> {
  const rows = await collectAll(host, { env }, anythingStale, dryRun);
  const exitCode = rows.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
  if (json) {
    const objects = rows.map(({ what: vf, owner, outcome, why }) => ({ vf, owner, outcome, why }));
    return { exitCode, stdout: `${JSON.stringify(objects)}\n` };
  }
  const lines = rows.map(({ what, owner, outcome, why }) => {
    const isDone = outcome === 'given back' || outcome === 'freed';
    const verb = `${dryRun && isDone ? 'would be ' : ''}${outcome}`;
    return printable(`${what}  ${verb}: ${owner ? `${owner}: ` : ''}${why}`);
  });
  return { exitCode, stdout: lines.length > 0 ? `${lines.join('\n')}\n` : 'No VF is claimed\n' };
}
