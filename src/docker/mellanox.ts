import * as z from 'zod/mini';
import { readFile } from '../kernel/files.ts';
import { parseJson } from '../kernel/json.ts';
import type { Network } from './networks.ts';

/** Where Mellanox's docker-sriov-plugin, and what it was called before, keep a file for each network. */
const folders = [
  '/etc/docker/mellanox/docker-sriov-plugin',
  '/etc/docker/mellanox/docker-passthrough-plugin',
];

const configSchema = z.looseObject({
  Netdevice: z.string(),
  Mode: z.optional(z.string()),
  Gateway: z.optional(z.string()),
  /** 0: none */
  vlan: z.optional(z.int()),
  Privileged: z.optional(z.boolean()),
});

/** A network that Mellanox's plugin made, so that its users need not make it again. What it did not write down is lost: the prefix. */
export function readMellanoxNetwork(id: string, roots: readonly string[] = folders): Network | undefined {
  for (const folder of roots) {
    const text = readFile(`${folder}/${id}/config.json`);
    if (text === undefined) continue;
    const config = parse(text);
    if (!config) continue;
    const { Netdevice, Mode, Gateway, vlan, Privileged } = config;
    const options: Record<string, string> = { netdevice: Netdevice };
    if (Mode) options['mode'] = Mode;
    if (Mode !== 'passthrough') {
      if (vlan) options['vlan'] = String(vlan);
      if (Privileged !== undefined) options['privileged'] = Privileged ? '1' : '0';
    }
    const gateway = Gateway?.split('/')[0];
    return { version: 1, id, options, internal: false, gateway: gateway || undefined };
  }
  return undefined;
}

function parse(text: string): z.infer<typeof configSchema> | undefined {
  try {
    return configSchema.safeParse(parseJson(text)).data;
  } catch {
    return undefined;
  }
}
