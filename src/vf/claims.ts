import {
  type FileLock,
  inFolder,
  listFolder,
  moveFile,
  readFile,
  removeFile,
  unfinished,
  writeFileAtomically,
} from '../kernel/files.ts';
import {
  type Claim,
  type EndpointClaim,
  isOf,
  LaterClaim,
  parseClaim,
  type PodClaim,
  UnreadableClaim,
} from './claim.ts';
import type { Host } from './host.ts';
import { lockVf } from './vf-lock.ts';

function claimPath(host: Host, pci: string): string {
  return `${host.stateDir}/claims/${pci}.json`;
}

/**
 * The claim on a VF; undefined if there is none.
 * @throws UnreadableClaim, LaterClaim
 */
export function readClaim(host: Host, pci: string): Claim | undefined {
  const path = claimPath(host, pci);
  const text = readFile(path);
  return text === undefined ? undefined : parseClaim(path, text);
}

/** Puts an unreadable claim aside, where an operator finds it, so that the VF can be claimed again. Returns its new path. */
export function setAside(host: Host, pci: string): string {
  const path = `${claimPath(host, pci)}.unreadable`;
  moveFile(claimPath(host, pci), path);
  return path;
}

/** PCI addresses of all claimed VFs. */
export function listClaims(host: Host): string[] {
  return listFolder(`${host.stateDir}/claims`).flatMap((name) =>
    name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : [],
  );
}

/** Removes half-written files of ADDs that died before their claim was there; whoever is at work keeps its own. */
export function sweepUnfinished(host: Host): void {
  for (const name of listFolder(`${host.stateDir}/claims`)) {
    if (!name.endsWith(`.json${unfinished}`)) continue;
    const pci = name.slice(0, -`.json${unfinished}`.length);
    using lock = lockVf(host, pci, 0);
    if (lock) removeFile(`${claimPath(host, pci)}${unfinished}`);
  }
}

/**
 * Writes a claim, under the VF's lock.
 * @param durable so that it survives a power failure: before the first change, as the IPAM plugin's lease on the disk does
 */
export function writeClaim(host: Host, claim: Claim, durable: boolean): void {
  const path = claimPath(host, claim.vf.pci);
  const text = JSON.stringify(claim, undefined, 1);
  inFolder(`${host.stateDir}/claims`, () => writeFileAtomically(path, text, durable));
}

/** Moves a claim away under the VF's lock: the VF is free. Needs no room on the disk but for a name. */
export function moveClaim(host: Host, pci: string, to: string, lock: FileLock): void {
  removeFile(`${claimPath(host, pci)}${unfinished}`);
  moveFile(claimPath(host, pci), to);
  noteRelease(host, pci, lock);
}

/** Forgets a claim, under the VF's lock: everything has been undone. */
export function removeClaim(host: Host, pci: string, lock: FileLock): void {
  removeFile(`${claimPath(host, pci)}${unfinished}`);
  removeFile(claimPath(host, pci));
  noteRelease(host, pci, lock);
}

/** When the VF was last given back: only a hint, by which pools choose. */
function noteRelease(host: Host, pci: string, lock: FileLock): void {
  try {
    lock.touch();
  } catch (error) {
    host.log.warning('time of release not noted', { vf: pci, error: String(error) });
  }
}

/**
 * The claims of an attachment: one, unless something went wrong between two ADDs.
 * @param except VFs that are not looked at
 * @throws LaterClaim where it is on one of this attachment
 */
export function findClaims(
  host: Host,
  containerId: string,
  ifname: string,
  except: readonly string[] = [],
): PodClaim[] {
  return claimsAbout(host, containerId, except).filter((claim) => isOf(claim, containerId, ifname));
}

/** The claims of an endpoint of Docker's: one, unless something went wrong. @throws LaterClaim where it is on one of this endpoint */
export function findEndpointClaims(host: Host, endpointId: string): EndpointClaim[] {
  return claimsAbout(host, endpointId).flatMap((claim) =>
    claim.version === 2 && claim.owner.endpointId === endpointId ? [claim] : [],
  );
}

/** The claims that have this id in them. One unreadable file must not stop the DEL of every pod on the node. */
function claimsAbout(host: Host, id: string, except: readonly string[] = []): Claim[] {
  return listClaims(host).flatMap((pci) => {
    if (except.includes(pci)) return [];
    const path = claimPath(host, pci);
    const text = readFile(path);
    // Most of a node's claims are of others: they are not worth parsing. An id has no character that JSON writes in another way.
    if (!text?.includes(`"${id}"`)) return [];
    try {
      return [parseClaim(path, text)];
    } catch (error) {
      if (error instanceof LaterClaim || !(error instanceof UnreadableClaim)) throw error;
      host.log.error('unreadable claim', { vf: pci, error: error.message });
      return [];
    }
  });
}

/** Like {@link readClaim}, but a claim that cannot be read is only logged. */
export function readClaimOrLog(host: Host, pci: string): Claim | undefined {
  try {
    return readClaim(host, pci);
  } catch (error) {
    if (!(error instanceof UnreadableClaim)) throw error;
    host.log.error('unreadable claim', { vf: pci, error: error.message });
    return undefined;
  }
}
