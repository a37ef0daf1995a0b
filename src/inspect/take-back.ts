import { anythingStale, collect } from '../attach/collect.ts';
import { printable } from '../kernel/printable.ts';
import { readClaim } from '../vf/claims.ts';
import { dropLease, freeLease, type Lease, listLeases } from '../attach/lease.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, parsePci } from '../vf/inventory.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';
import { select } from './select.ts';
import { survey } from './survey.ts';

/** `sriov release VF`: gives back one VF; from a living pod only with --force. */
export async function takeBack(
  host: Host,
  words: readonly string[],
  { force, json, env }: Flags,
): Promise<Outcome> {
  const [text = '', ...more] = words;
  if (text === '' || more.length > 0) return wrongUsage('release', 'it takes one VF');
  const lease = listLeases(host).find(({ name }) => name === text);
  if (lease) return takeBackLease(host, lease, { force, json, env });
  const pci = parsePci(text) ?? (await selectOne(host, text));
  const end = (exitCode: number, outcome: string, message: string): Outcome => {
    if (json) return { exitCode, stdout: `${JSON.stringify({ vf: pci, outcome, message })}\n` };
    return exitCode === 0
      ? { exitCode, stdout: `${printable(message)}\n` }
      : { exitCode, stdout: '', stderr: `${message}\n` };
  };
  if (!readClaim(host, pci))
    return end(1, 'not claimed', `${pci} is not claimed: there is nothing to give back`);
  const collected = await collect(host, pci, { env }, anythingStale, force);
  if (!collected) return end(0, 'not claimed', `${pci} is not claimed any more`);
  const { owner, outcome, why } = collected;
  if (outcome === 'given back') return end(0, outcome, `${pci} given back; it was of ${owner}`);
  if (outcome === 'failed') return end(1, outcome, why);
  return end(1, outcome, `${pci} is in use by ${owner}: ${why}${force ? '' : '; --force takes it away'}`);
}

/** Frees an address that is still to be freed; with --force forgets it even if that fails. */
async function takeBackLease(
  host: Host,
  lease: Lease,
  { force, json, env }: Pick<Flags, 'force' | 'json' | 'env'>,
): Promise<Outcome> {
  const notFreed = await freeLease(host, lease, { env });
  if (notFreed && force) dropLease(host, lease);
  const outcome = notFreed ? (force ? 'dropped' : 'failed') : 'freed';
  const message = {
    freed: `${lease.name} freed`,
    dropped: `${lease.name} dropped: ${notFreed?.message}`,
    failed: `${notFreed?.message}; --force drops it`,
  }[outcome];
  const exitCode = outcome === 'failed' ? 1 : 0;
  if (json) return { exitCode, stdout: `${JSON.stringify({ lease: lease.name, outcome, message })}\n` };
  if (exitCode === 0) return { exitCode, stdout: `${printable(message)}\n` };
  return { exitCode, stdout: '', stderr: `${printable(message)}\n` };
}

/** A VF that is named in another way than by its address. @throws NotUsable */
async function selectOne(host: Host, text: string): Promise<string> {
  const found = select(host, await survey(host), text);
  const [only] = found;
  if (only && found.length === 1) return only.vf.pci;
  throw new NotUsable(`"${text}" has ${found.length} VFs: name one by its PCI address`);
}
