/** The driver's HTTP server: dockerd posts each call to a path of its name, and reads JSON. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { messageOf, toLine } from '../attach/failure.ts';
import { startOf } from '../kernel/process.ts';
import { system } from '../kernel/system.ts';
import { calls, type Driver } from './calls.ts';
import type { Dockerd } from './endpoints.ts';

const contentType = 'application/vnd.docker.plugins.v1.2+json';

/** The longest that was seen has 2 KB; what a user can make longer are options and published ports. */
const maxBodyBytes = 1024 * 1024;

/** How long a caller may take to send a call of which something has come, when the driver ends: dockerd sends it in one piece. */
const graceMs = 1_000;

/** A server that answers with the driver, from when it listens until it is told to end. */
export class CallServer {
  readonly http: Server;
  readonly #running = new Set<Promise<void>>();
  readonly #arriving = new Set<IncomingMessage>();

  constructor(driver: Driver) {
    this.http = createServer((request, response) => {
      this.#arriving.add(request);
      const hasArrived = () => this.#arriving.delete(request);
      const running = handle(driver, request, response, hasArrived).finally(() => {
        hasArrived();
        this.#running.delete(running);
      });
      this.#running.add(running);
    });
    // dockerd keeps connections. One that we close as it sends a call is a call that it repeats without its body.
    this.http.keepAliveTimeout = 0;
  }

  /** Ends between two calls: what has begun is answered, what comes now is the next driver's on systemd's socket. */
  async end(): Promise<void> {
    this.http.close();
    const late = setTimeout(() => {
      for (const request of this.#arriving) request.destroy();
    }, graceMs);
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(late);
    this.http.closeAllConnections(); // those that never sent a call
  }
}

/** Answers one request, whatever it is: an error of one must not end the process, which serves all. */
async function handle(
  driver: Driver,
  request: IncomingMessage,
  response: ServerResponse,
  hasArrived: () => void,
): Promise<void> {
  try {
    const path = request.url ?? '';
    const answer = Object.hasOwn(calls, path) ? calls[path] : undefined;
    const body = await readBody(request);
    hasArrived();
    if (!answer) send(response, 404, { Err: `This driver has no call ${path}` });
    else if (body === undefined)
      send(response, 413, { Err: `The call is longer than ${maxBodyBytes} bytes` });
    else send(response, 200, await answered(() => answer(driver, body, callerOf(request.socket))));
  } catch (error) {
    driver.host.log.debug('connection lost', { error: messageOf(error) });
    response.destroy();
  }
  if (!response.closed) await new Promise((resolve) => response.once('close', resolve));
}

/** An error is an answer like any other: its text reaches the user. */
async function answered(answer: () => Promise<object> | object): Promise<object> {
  try {
    return await answer();
  } catch (error) {
    return { Err: toLine(error) };
  }
}

/** The body as text; undefined if it is too long: the rest is then read and dropped, so that the caller gets to the answer. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length <= maxBodyBytes) chunks.push(chunk);
    else chunks.length = 0;
  }
  if (length > maxBodyBytes) return undefined;
  const decoder = new TextDecoder();
  return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join('') + decoder.decode();
}

function send(response: ServerResponse, status: number, answer: object): void {
  const text = JSON.stringify(answer);
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': new TextEncoder().encode(text).length,
  });
  response.end(text);
}

/** The dockerd behind a connection; undefined where the kernel does not tell: it is in another pid namespace, or has ended. */
function callerOf(socket: Socket): Dockerd {
  // Node has no name for it.
  const fd = (socket as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0) return undefined;
  const pid = system.peerPid(fd);
  const started = pid > 0 ? startOf(pid) : undefined;
  return started === undefined ? undefined : { pid, started };
}
