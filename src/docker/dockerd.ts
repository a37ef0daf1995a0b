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
  const parsed = containersSchema.safeParse(await get(api, '/containers/json'));
  if (!parsed.success) return undefined;
  const found = new Map<string, Known>();
  for (const { Id: id, Names, NetworkSettings } of parsed.data) {
    const name = (Names[0] ?? '').replace(/^\//, '');
    for (const [networkName, { EndpointID }] of Object.entries(NetworkSettings.Networks ?? {}))
      if (EndpointID !== '') found.set(EndpointID, { container: { id, name }, networkName });
  }
  return found;
}

async function get(socketPath: string, path: string): Promise<unknown> {
  try {
    return parseJson(await fetchText(socketPath, path));
  } catch {
    return undefined;
  }
}

function fetchText(socketPath: string, path: string): Promise<string> {
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
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`status ${response.statusCode}`));
      });
    });
    const timer = setTimeout(() => asked.destroy(new Error('no answer')), timeoutMs);
    asked.on('close', () => clearTimeout(timer));
    asked.on('error', reject);
    asked.end();
  });
}
