import type { FileLock } from '../kernel/files.ts';
import { type Claim, readClaim, setAside, UnreadableClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { Failure } from './failure.ts';
import { goPluginNetns } from './go-plugin.ts';
import { release } from './release.ts';
import { standingOf } from './standing.ts';
import type { Caller } from './wish.ts';

/** "pod ns/name (container ID)", "container NAME (ID)", or the container's id where no name was told. */
export function ownerName({ owner: { pod, containerName, containerId } }: Claim): string {
  if (pod !== undefined) return `pod ${pod} (container ${containerId})`;
  return containerName === undefined
    ? `container ${containerId}`
    : `container ${containerName} (${containerId})`;
}

/**
 * Makes a VF free whose claim is stale: an ADD that died, a pod that is gone, a machine that was restarted. Called under the VF's lock.
 * @param patienceMs how long to wait for a VF whose pod is just going
 * @throws Failure `busy` if somebody has the VF; `incomplete` if it could not be given back
 */
export async function recover(
  host: Host,
  pci: string,
  lock: FileLock,
  caller: Caller,
  patienceMs?: number,
): Promise<void> {
  const foreign = goPluginNetns(host, pci);
  if (foreign !== undefined)
    throw new Failure('busy', `VF ${pci} belongs to a pod that the Go plugin attached, in "${foreign}"`);
  const claim = readUsableClaim(host, pci);
  if (!claim) return;
  const { state, why } = await standingOf(host, claim, patienceMs);
  if (state !== 'stale') throw new Failure('busy', `VF ${pci} belongs to ${ownerName(claim)}: ${why}`);
  host.log.warning('stale claim', { vf: pci, owner: ownerName(claim), why });
  await release(host, claim, lock, caller);
}

/** The claim on a VF; one that cannot be read is put aside for the operator. */
export function readUsableClaim(host: Host, pci: string): Claim | undefined {
  try {
    return readClaim(host, pci);
  } catch (error) {
    if (!(error instanceof UnreadableClaim)) throw error;
    host.log.error('unreadable claim put aside', {
      vf: pci,
      path: setAside(host, pci),
      error: String(error.cause),
    });
    return undefined;
  }
}
