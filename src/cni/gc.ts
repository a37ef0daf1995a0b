import * as z from 'zod/mini';
import { type Claim, listClaims, lockVf } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { standingOf } from '../vf/standing.ts';
import { toCniError } from './error-codes.ts';
import { Code, CniError } from './errors.ts';
import { type IpamCall, ipamCall, runIpam } from './ipam.ts';
import { ownerName, readUsableClaim } from './recovery.ts';
import { release, StillHeld } from './release.ts';
import type { Request } from './request.ts';

const attachmentsSchema = z.nullable(z.array(z.looseObject({ containerID: z.string(), ifname: z.string() })));

/** The key as the specification has it, and as libcni once misspelt it (it still sends both). */
const listKeys = ['cni.dev/valid-attachments', 'cni.dev/attachments'];

/**
 * GC: gives back every VF of this network that no valid attachment has. null and [] mean that none is valid; without the key (cnitool)
 * nothing is said about validity: then only stale ones go, and living ones are reported.
 * @throws CniError 7; 102 naming all that could not be given back
 */
export async function gc(host: Host, request: Request): Promise<void> {
  const { config, attachment, env } = request;
  const valid = validAttachments(config);
  const isValid = ({ owner }: Claim) =>
    valid?.some(({ containerID, ifname }) => containerID === owner.containerId && ifname === owner.ifname);
  const failures: string[] = [];
  for (const pci of listClaims(host)) {
    try {
      await collect(
        host,
        pci,
        env,
        (claim) => claim.owner.network === config['name'] && !isValid(claim),
        valid !== undefined,
      );
    } catch (error) {
      failures.push(`${pci}: ${toCniError(error).message}`);
    }
  }
  const call = ipamCall(config, attachment, env);
  if (call) {
    try {
      runIpam('GC', call);
    } catch (error) {
      failures.push(toCniError(error).message);
    }
  }
  if (failures.length > 0)
    throw new CniError(
      Code.RollbackIncomplete,
      `GC left something behind: ${failures.join('; ')}`,
      failures.join('\n'),
    );
}

/** Undefined if the request says nothing about validity. @throws CniError 7 */
function validAttachments(config: Request['config']): { containerID: string; ifname: string }[] | undefined {
  const key = listKeys.find((name) => name in config);
  if (key === undefined) return undefined;
  const parsed = attachmentsSchema.safeParse(config[key]);
  if (parsed.success) return parsed.data ?? [];
  throw new CniError(
    Code.InvalidConfig,
    `Invalid network configuration: "${key}": must be a list of {"containerID", "ifname"}`,
  );
}

/** What became of a claim. */
export interface Collected {
  readonly claim: Claim;
  readonly outcome: 'given back' | 'left alone';
  readonly why: string;
}

/**
 * Gives back a claimed VF if its claim is unwanted.
 * @param isSure unwanted claims go even if their pods live; else only stale ones do
 * @returns undefined if nothing is to be said: there is no such claim
 */
export async function collect(
  host: Host,
  pci: string,
  env: IpamCall['env'],
  isUnwanted: (claim: Claim) => boolean,
  isSure: boolean,
  isDryRun = false,
): Promise<Collected | undefined> {
  const seen = readUsableClaim(host, pci);
  if (!seen || !isUnwanted(seen)) return undefined;
  using lock = lockVf(host, pci, 0);
  if (!lock) return { claim: seen, outcome: 'left alone', why: 'another process is working on it' };
  const claim = readUsableClaim(host, pci);
  if (!claim || !isUnwanted(claim)) return undefined;
  const { state, why } = isSure
    ? { state: 'stale', why: 'its attachment is not valid any more' }
    : await standingOf(host, claim);
  const owner = ownerName(claim);
  const leaveAlone = (reason: string): Collected => {
    host.log.warning('VF left alone', { vf: pci, owner, why: reason });
    return { claim, outcome: 'left alone', why: reason };
  };
  if (state !== 'stale') return leaveAlone(why);
  host.log.info('stale claim', { vf: pci, owner, why });
  try {
    if (!isDryRun) await release(host, claim, lock, env);
  } catch (error) {
    if (error instanceof StillHeld) return leaveAlone(error.message);
    throw error;
  }
  return { claim, outcome: 'given back', why };
}
