/** Networks on disk: Docker tells of a network once, when it is made, and never again. */
import * as z from 'zod/mini';
import { Failure } from '../attach/failure.ts';
import {
  listFolder,
  makeFolder,
  modifiedMs,
  readFile,
  removeFile,
  writeFileAtomically,
} from '../kernel/files.ts';
import { parseJson } from '../kernel/json.ts';
import type { Host } from '../vf/host.ts';
import { readMellanoxNetwork } from './mellanox.ts';
import type { NetworkCall } from './protocol.ts';

const networkSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  options: z.record(z.string(), z.string()),
  /** --internal */
  internal: z.boolean(),
  /** Without prefix length; undefined where Docker gave none. */
  gateway: z.optional(z.string()),
  gatewayV6: z.optional(z.string()),
});
export type Network = z.infer<typeof networkSchema>;

function pathOf(host: Host, id: string): string {
  return `${host.stateDir}/networks/${id}.json`;
}

/** A network as it was told when it was made. */
export function networkOf({ NetworkID, Options, IPv4Data, IPv6Data }: NetworkCall): Network {
  return {
    version: 1,
    id: NetworkID,
    options: Options?.['com.docker.network.generic'] ?? {},
    internal: Options?.['com.docker.network.internal'] ?? false,
    gateway: gatewayOf(IPv4Data),
    gatewayV6: gatewayOf(IPv6Data),
  };
}

function gatewayOf(pools: NetworkCall['IPv4Data']): string | undefined {
  const gateway = pools?.find((pool) => pool.Gateway)?.Gateway;
  return gateway?.split('/')[0];
}

/** Writes a network down for good; one of the same id is written over. @throws FileError: then there is no record of it */
export function writeNetwork(host: Host, network: Network): void {
  makeFolder(`${host.stateDir}/networks`);
  try {
    writeFileAtomically(pathOf(host, network.id), JSON.stringify(network, undefined, 1), true);
  } catch (error) {
    // It may be there, only not for good; and Docker knows no network whose making has failed.
    try {
      removeNetwork(host, network.id);
    } catch {
      // lost-networks.ts forgets it
    }
    throw error;
  }
}

/** Ids of the networks that are written down, and how long ago each was. */
export function listNetworks(host: Host): { id: string; ageMs: number }[] {
  return listFolder(`${host.stateDir}/networks`).flatMap((name) => {
    const id = /^(\w+)\.json$/.exec(name)?.[1];
    const writtenMs = id && modifiedMs(pathOf(host, id));
    return id && writtenMs !== undefined ? [{ id, ageMs: Date.now() - Number(writtenMs) }] : [];
  });
}

/** Makes a network's record as new, whatever is in it. @throws FileError */
export function renewNetwork(host: Host, id: string): void {
  const text = readFile(pathOf(host, id));
  if (text !== undefined) writeFileAtomically(pathOf(host, id), text, true);
}

/** @throws FileError */
export function removeNetwork(host: Host, id: string): void {
  removeFile(pathOf(host, id));
}

/** The network of an id, also one that Mellanox's plugin made. @throws Failure `bad wish` if it is of neither; FileError */
export function readNetwork(host: Host, id: string): Network {
  const path = pathOf(host, id);
  const text = readFile(path);
  if (text !== undefined) return parseRecord(path, text);
  const mellanox = readMellanoxNetwork(id);
  if (mellanox) return mellanox;
  throw new Failure(
    'bad wish',
    `Network ${id} was made by another plugin, or its record ${path} is gone: remove it with "docker network rm" and create it again`,
  );
}

function parseRecord(path: string, text: string): Network {
  try {
    const parsed = networkSchema.safeParse(parseJson(text));
    if (parsed.success) return parsed.data;
  } catch {
    // it is no JSON
  }
  throw new Failure(
    'bad wish',
    `Cannot read the record ${path} of the network: remove the network with "docker network rm" and create it again`,
  );
}
