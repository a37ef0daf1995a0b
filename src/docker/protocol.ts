import * as z from 'zod/mini';
import { Failure } from '../attach/failure.ts';
import { parseJson } from '../kernel/json.ts';
import { quoted } from '../kernel/printable.ts';

/** What dockerd sends (libnetwork's remote driver API), as Docker 20.10, 26.1 and 28.5 were recorded to do it. Null and absent are the same. */

/** Docker's ids are 64 hexadecimal digits, those of a swarm 25 letters and digits. They become names of files. */
const id = z.string().check(z.regex(/^[A-Za-z0-9]{1,128}$/));
const text = z.optional(z.nullable(z.string()));
/** The command line sends text, the API's other users may not. */
const scalar = z.pipe(
  z.union([z.string(), z.number(), z.boolean()]),
  z.transform((value) => String(value)),
);
const anything = z.optional(z.nullable(z.record(z.string(), z.unknown())));

const pool = z.looseObject({ Pool: text, Gateway: text });
const pools = z.optional(z.nullable(z.array(pool)));

export const networkOptions = z.looseObject({
  'com.docker.network.generic': z.optional(z.nullable(z.record(z.string(), scalar))),
  'com.docker.network.internal': z.optional(z.nullable(z.boolean())),
});

const network = { NetworkID: id };
const endpoint = { NetworkID: id, EndpointID: id };

export const schemas = {
  GwAllocCheck: z.looseObject({ Options: z.optional(z.nullable(networkOptions)) }),
  CreateNetwork: z.looseObject({
    ...network,
    Options: z.optional(z.nullable(networkOptions)),
    IPv4Data: pools,
    IPv6Data: pools,
  }),
  DeleteNetwork: z.looseObject(network),
  CreateEndpoint: z.looseObject({
    ...endpoint,
    Interface: z.optional(z.nullable(z.looseObject({ MacAddress: text }))),
    Options: anything,
  }),
  Join: z.looseObject({
    ...endpoint,
    SandboxKey: z.string().check(z.regex(/^\/[^\0]{1,4000}$/)),
  }),
  Endpoint: z.looseObject(endpoint),
} as const;

export type NetworkCall = z.output<typeof schemas.CreateNetwork>;
export type EndpointCall = z.output<typeof schemas.CreateEndpoint>;
export type JoinCall = z.output<typeof schemas.Join>;
export type EndpointName = z.output<typeof schemas.Endpoint>;
export type NetworkOptions = z.output<typeof networkOptions>;

/**
 * Understands the body of a call.
 * @throws Failure `bad wish`; also for an empty body: dockerd repeats a call whose answer it did not get, but has no body any more
 */
export function parseBody<T extends z.ZodMiniType>(schema: T, body: string): z.output<T> {
  if (body.trim() === '')
    throw new Failure(
      'bad wish',
      'dockerd sent no body: it repeats a call whose answer it did not get; what that began is given back by the driver',
    );
  let value: unknown;
  try {
    value = parseJson(body);
  } catch (cause) {
    throw new Failure('bad wish', `Cannot parse what dockerd sent: ${(cause as Error).message}`, undefined, {
      cause,
    });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(
    ({ path, message }) => `${path.length > 0 ? quoted(path.join('.')) : 'it'}: ${message}`,
  );
  throw new Failure('bad wish', `Cannot parse what dockerd sent: ${problems.join('; ')}`);
}
