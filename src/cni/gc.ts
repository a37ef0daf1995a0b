import * as z from 'zod/mini';
import { collectAll } from '../attach/collect.ts';
import { Failure, messageOf } from '../attach/failure.ts';
import type { Host } from '../vf/host.ts';
import { Code, CniError } from './errors.ts';
import { callerOf, collectAddresses } from './ipam.ts';
import type { Request } from './request.ts';

const attachmentsSchema = z.nullable(z.array(z.looseObject({ containerID: z.string(), ifname: z.string() })));

/** The key as the specification has it, and as libcni once misspelt it (it still sends both). */
const listKeys = ['cni.dev/valid-attachments', 'cni.dev/attachments'];

/**
 * GC: gives back every VF of this network that no valid attachment has. null and [] mean that none is
 * valid; without the key (cnitool) nothing is said about validity: then only stale ones go, and
 * living ones are reported.
 * @throws CniError 7; Failure `incomplete` naming all that could not be given back
 */
export async function gc(host: Host, request: Request): Promise<void> {
  const { config } = request;
  const selection = { network: config['name'] as string, valid: validAttachments(config) };
  const collected = await collectAll(host, callerOf(request), selection);
  const failures = collected.flatMap(({ what, outcome, why }) =>
    outcome === 'failed' ? [`${what}: ${why}`] : [],
  );
  try {
    await collectAddresses(host, request);
  } catch (error) {
    failures.push(messageOf(error));
  }
  if (failures.length > 0)
    throw new Failure('incomplete', `GC left something behind: ${failures.join('; ')}`);
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
