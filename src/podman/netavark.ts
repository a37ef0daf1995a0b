import * as z from 'zod/mini';
import { Failure } from '../attach/failure.ts';
import { parseJson } from '../kernel/json.ts';

/** What netavark and podman send on stdin (netavark's plugin API 1.0.0). Absent and null are the same to them. */

const text = z.optional(z.nullable(z.string()));
const options = z.optional(z.nullable(z.record(z.string(), z.string())));
const list = <T extends z.ZodMiniType>(item: T) => z.optional(z.nullable(z.array(item)));

/** Names of networks and containers; a container's id, too. */
const identifier = z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/));

const networkSchema = z.looseObject({
  name: identifier,
  /** --interface-name */
  network_interface: text,
  options,
  ipam_options: options,
  internal: z.optional(z.nullable(z.boolean())),
  subnets: list(z.looseObject({ subnet: z.string(), gateway: text })),
  routes: list(
    z.looseObject({
      destination: z.string(),
      gateway: text,
      metric: z.optional(z.nullable(z.int().check(z.gte(0), z.lte(0xffffffff)))),
    }),
  ),
  network_dns_servers: list(z.string()),
});
/** A network as podman stores it. */
export type Network = z.infer<typeof networkSchema>;

const callSchema = z.looseObject({
  container_id: identifier,
  container_name: identifier,
  port_mappings: list(z.unknown()),
  network: networkSchema,
  network_options: z.looseObject({
    interface_name: z.string(),
    static_ips: list(z.string()),
    static_mac: text,
    options,
  }),
});
/** A container that is to be attached to a network, or detached from it. */
export type Call = z.infer<typeof callSchema>;

/** @throws Failure `bad wish` */
export function parseNetwork(stdin: string): Network {
  return understand(networkSchema, stdin);
}

/** @throws Failure `bad wish` */
export function parseCall(stdin: string): Call {
  return understand(callSchema, stdin);
}

function understand<T extends z.ZodMiniType>(schema: T, stdin: string): z.output<T> {
  let value: unknown;
  try {
    value = parseJson(stdin);
  } catch (cause) {
    const why = stdin.trim() === '' ? 'stdin is empty' : (cause as Error).message;
    throw new Failure('bad wish', `Cannot parse what netavark sent: ${why}`, undefined, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`);
  throw new Failure('bad wish', `Cannot parse what netavark sent: ${problems.join('; ')}`);
}
