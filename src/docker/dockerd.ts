/** Docker's own API, asked for what the plugin protocol does not tell. It may be missing, slow or not ours to ask: then nothing is known. */
import { request } from 'node:http';
import * as z from 'zod/mini';
import { parseJson } from '../kernel/json.ts';

/** Where it listens unless its user has said otherwise. */
export const usualApi = '/run/docker.sock';

/** Lists answer at once even while dockerd waits for us in a call; what looks into one container waits for our own answer. */
const timeoutMs = 2_000;
const maxAnswerBytes = 16 * 1024 * 1024;

/** The container behind an endpoint. */
export interface Known {
  readonly container: { readonly id: string; readonly name: string };
  readonly networkName: string;
}

const containersSchema = z.array(
  z.looseObject({
    Id: z.string(),
    Names: z.array(z.string()),
    NetworkSettings: z.looseObject({
      Networks: z.nullable(z.record(z.string(), z.looseObject({ EndpointID: z.string() }))),
    }),
  }),
);

/** The containers that Docker has now, by endpoint; undefined if it cannot be asked. */
export async function containersByEndpoint(api: string): Promise<ReadonlyMap<string, Known> | undefined> {
  const answer = await get(api, '/containers/json');
  const parsed = answer?.status === 200 ? containersSchema.safeParse(answer.json) : undefined;
  if (!parsed?.success) return undefined;
  const found = new Map<string, Known>();
  for (const { Id: id, Names, NetworkSettings } of parsed.data) {
    const name = (Names[0] ?? '').replace(/^\//, '');
    for (const [networkName, { EndpointID }] of Object.entries(NetworkSettings.Networks ?? {}))
      if (EndpointID !== '') found.set(EndpointID, { container: { id, name }, networkName });
  }
  return found;
}

const networkSchema = z.looseObject({
  Id: z.string(),
  Containers: z.optional(z.nullable(z.record(z.string(), z.looseObject({ EndpointID: z.string() })))),
});
const errorSchema = z.looseObject({ message: z.string() });

/**
 * The endpoints that Docker has in a network now, also those of containers that are being started; "no such network" if it says so, and
 * undefined if it cannot be asked.
 */
export async function endpointsOf(
  api: string,
  network: string,
): Promise<ReadonlySet<string> | 'no such network' | undefined> {
  const answer = await get(api, `/networks/${network}`);
  // "network ID not found": a server of another kind says 404 of whatever it does not have.
  const isUnknown =
    answer?.status === 404 && errorSchema.safeParse(answer.json).data?.message.includes(network);
  if (isUnknown) return 'no such network';
  const found = answer?.status === 200 ? networkSchema.safeParse(answer.json).data : undefined;
  if (found?.Id !== network) return undefined;
  return new Set(Object.values(found.Containers ?? {}).map(({ EndpointID }) => EndpointID));
}

interface Answer {
  readonly status: number | undefined;
  readonly json: unknown;
}

async function get(socketPath: string, path: string): Promise<Answer | undefined> {
  try {
    const { status, text } = await fetchText(socketPath, path);
    return { status, json: parseJson(text) };
  } catch {
    return undefined;
  }
}

function fetchText(socketPath: string, path: string): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    // Without an agent: no connection is kept.
    const asked = request({ socketPath, path, agent: false, headers: { host: 'docker' } }, (response) => {
      response.setEncoding('utf8');
      let text = '';
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > maxAnswerBytes) asked.destroy(new Error('too long an answer'));
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, text }));
    });
    const timer = setTimeout(() => asked.destroy(new Error('no answer')), timeoutMs);
    asked.on('close', () => clearTimeout(timer));
    asked.on('error', reject);
    asked.end();
  });
}
