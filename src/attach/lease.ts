/**
 * Addresses that could not be freed when their VF was given back. A VF must not wait for an IPAM plugin that refuses, or whose server is
 * away: its claim becomes a lease, a file of its own, which DEL of the attachment and gc try again, `sriov list` shows, and an operator can
 * drop. The file is the claim that it was, so that this needs no room on a full disk, with what became of it beside.
 */
import * as z from 'zod/mini';
import {
  type FileLock,
  listFolder,
  makeFolder,
  readFile,
  removeFile,
  writeFileAtomically,
} from '../kernel/files.ts';
import { parseJson } from '../kernel/json.ts';
import { abandon, type Child } from '../kernel/process.ts';
import { type PodClaim, parseClaim, UnreadableClaim } from '../vf/claim.ts';
import { findClaims, moveClaim, removeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { Failure, messageOf } from './failure.ts';
import {
  beginIpam,
  finishIpam,
  fuller,
  ipamCall,
  isStripped,
  startIpam,
  startWaitingIpam,
} from './ipam-plugin.ts';
import type { Caller } from './wish.ts';

const triesSchema = z.looseObject({
  freeing: z.optional(
    z.object({ tries: z.int(), lastError: z.string(), isStripped: z.optional(z.boolean()) }),
  ),
});

/** An address that is still to be freed. */
export interface Lease {
  /** How an operator names it. */
  readonly name: string;
  /** The claim that it was: owner and request tell what to free. */
  readonly claim: PodClaim;
  readonly tries: number;
  readonly lastError: string | undefined;
  /** All that was ever known of the network's IPAM is the type: most plugins refuse to work with that. */
  readonly isStripped: boolean;
  /** Nobody knows whether there is an address: the IPAM plugin refused to give one, and then to free it. */
  readonly isUncertain: boolean;
}

function folder(host: Host): string {
  return `${host.stateDir}/leases`;
}

function leasePath(host: Host, name: string): string {
  return `${folder(host)}/${name}.json`;
}

/** At the end of the names of leases of which nobody knows whether there is an address: on a full disk, only a name can tell. */
const uncertain = '-maybe';

/** As many of those are kept: each try of a pod whose IPAM plugin cannot work at all makes one more. */
const mostUncertain = 256;

/** The VF, and when the attachment began: no VF is claimed twice in one millisecond. */
function leaseName({ vf, since, isAddressUncertain }: PodClaim): string {
  return `${vf.pci}-${since.replace(/[^0-9TZ]/g, '')}${isAddressUncertain ? uncertain : ''}`;
}

/** Makes a lease of the claim of a VF that is as it was, under the VF's lock. @throws the file call's error: the claim then stays */
export function keepLease(host: Host, claim: PodClaim, lock: FileLock, why: Failure): void {
  makeFolder(folder(host));
  const { pci } = claim.vf;
  const name = leaseName(claim);
  const isUncertain = name.endsWith(uncertain);
  if (isUncertain && countUncertain(host) >= mostUncertain) {
    host.log.warning('not kept as a lease: there are enough that may be none', { lease: name });
    removeClaim(host, pci, lock);
    return;
  }
  moveClaim(host, pci, leasePath(host, name), lock);
  noteFailure(host, { name, claim, tries: 0, lastError: undefined, isStripped: false, isUncertain }, why);
}

function countUncertain(host: Host): number {
  return listFolder(folder(host)).filter((file) => file.endsWith(`${uncertain}.json`)).length;
}

/** Makes a lease of what no claim is on: what the Go plugin attached. */
export function writeLease(host: Host, claim: PodClaim, why: Failure): void {
  makeFolder(folder(host));
  const isBare = isStripped(claim.request.config);
  const freeing = { tries: 1, lastError: messageOf(why.cause ?? why), isStripped: isBare };
  const text = JSON.stringify({ ...claim, freeing }, undefined, 1);
  writeFileAtomically(leasePath(host, leaseName(claim)), text, false);
}

/** Best effort: what matters is that the file is there. */
function noteFailure(host: Host, lease: Lease, why: Failure): void {
  const { name, claim, tries, isStripped: isBare } = lease;
  const lastError = messageOf(why.cause ?? why);
  const freeing = { tries: tries + 1, lastError, isStripped: isBare };
  host.log.warning('address not freed, kept as a lease', { lease: name, ...freeing });
  try {
    writeFileAtomically(leasePath(host, name), JSON.stringify({ ...claim, freeing }, undefined, 1), false);
  } catch (error) {
    host.log.warning('lease not updated', { lease: name, error: messageOf(error) });
  }
}

/**
 * All leases of the node; files that cannot be read as one are only logged.
 * @param containerId only those in which it stands: the rest is not worth parsing
 */
export function listLeases(host: Host, containerId?: string): Lease[] {
  return listFolder(folder(host)).flatMap((file) => {
    if (!file.endsWith('.json')) return [];
    const name = file.slice(0, -'.json'.length);
    const text = readFile(leasePath(host, name));
    if (text === undefined || (containerId !== undefined && !text.includes(`"${containerId}"`))) return [];
    try {
      const claim = parseClaim(leasePath(host, name), text);
      if (claim.version !== 1) throw new UnreadableClaim('Docker keeps its own addresses');
      const { freeing } = triesSchema.parse(parseJson(text));
      const { tries = 0, lastError, isStripped: isBare = false } = freeing ?? {};
      const isUncertain = name.endsWith(uncertain);
      return [{ name, claim, tries, lastError, isStripped: isBare, isUncertain }];
    } catch (error) {
      if (!(error instanceof UnreadableClaim)) throw error;
      host.log.error('unreadable lease', { lease: name, error: error.message });
      return [];
    }
  });
}

/** The leases of an attachment. */
export function findLeases(host: Host, containerId: string, ifname: string): Lease[] {
  return listLeases(host, containerId).filter(
    ({ claim: { owner } }) => owner.containerId === containerId && owner.ifname === ifname,
  );
}

/** Drops a lease without freeing the address. */
export function dropLease(host: Host, { name }: Lease): void {
  removeFile(leasePath(host, name));
}

/**
 * Tries once more to free a lease's address, with what the caller knows where it says more than what was saved.
 * @returns why it could not be freed; the lease then stays
 */
export async function freeLease(host: Host, lease: Lease, caller: Caller): Promise<Failure | undefined> {
  const { containerId, ifname } = lease.claim.owner;
  // The IPAM plugin frees by container and interface: an attachment of the same name that lives would lose its address.
  if (findClaims(host, containerId, ifname).length > 0)
    return new Failure('busy', `Address ${lease.name} not freed: its attachment was made anew and lives`);
  const request = fuller(lease.claim.request, caller.request);
  const claim = { ...lease.claim, request };
  try {
    await freeAddress(host, claim, caller);
    dropLease(host, lease);
    return undefined;
  } catch (error) {
    const message = `Cannot free the address of lease ${lease.name}: ${messageOf(error)}`;
    const details = error instanceof Failure ? error.details : undefined;
    const failure = new Failure('incomplete', message, details, { cause: error });
    const isBare = lease.isStripped && isStripped(request.config);
    noteFailure(host, { ...lease, claim, isStripped: isBare }, failure);
    return failure;
  }
}

/**
 * Whether a DEL may leave a lease to gc and the operator, because a runtime that repeats it would keep the pod Terminating for ever: all
 * that anybody knows of its network's IPAM is the type; or the IPAM plugin refuses whatever it is asked, and may have given nothing.
 */
export function isHopeless(
  lease: Pick<Lease, 'claim' | 'isStripped' | 'isUncertain'>,
  caller: Caller,
): boolean {
  if (lease.isUncertain) return true;
  return lease.isStripped && isStripped(fuller(lease.claim.request, caller.request).config);
}

/** The IPAM plugin's DEL with the configuration of the ADD, where nothing is done beside it. @throws Failure; IpamRefused */
export async function freeAddress(host: Host, claim: PodClaim, caller: Caller): Promise<void> {
  using freeing = startFreeing(host, claim, caller);
  freeing?.begin();
  await freeing?.finish();
}

/** An address that is freed beside the kernel's work. Each throws Failure or IpamRefused. */
export interface Freeing extends Disposable {
  /** Nobody can use the address any more. */
  begin(): void;
  /** Waits for the IPAM plugin. */
  finish(): Promise<void>;
}

/**
 * Gets the IPAM plugin's DEL ready, with the configuration of the ADD: where it may be, its process has started when the address may be
 * freed. Undefined if there is no IPAM plugin.
 * @throws Failure
 */
export function startFreeing(
  host: Host,
  claim: PodClaim,
  caller: Caller,
  lock?: FileLock,
): Freeing | undefined {
  const { containerId, ifname, netns } = claim.owner;
  const request = fuller(claim.request, caller.request);
  const call = ipamCall(request, { containerId, ifname, netns: netns.path }, caller);
  if (!call) return undefined;
  let waiting = startWaitingIpam('DEL', call, lock);
  let running: Child | undefined;
  return {
    begin: () => {
      running = waiting ?? startIpam('DEL', call, lock);
      if (waiting) beginIpam(call, waiting);
      waiting = undefined;
    },
    finish: async () => {
      if (!running) return;
      await finishIpam('DEL', call, running);
      host.log.info('addresses freed', { vf: claim.vf.pci, ipam: call.plugin });
    },
    [Symbol.dispose]: () => {
      if (waiting) abandon(waiting);
    },
  };
}
