/** `sriov docker`: Docker's network driver, until it is told to end. */
import { connect, type Server } from 'node:net';
import process from 'node:process';
import { parseArguments } from '../kernel/arguments.ts';
import { FileLock, makeFolder, removeFile } from '../kernel/files.ts';
import { Log } from '../kernel/log.ts';
import { isSocket, system } from '../kernel/system.ts';
import { thisHost } from '../vf/host.ts';
import { Chores } from './chores.ts';
import { usualApi } from './dockerd.ts';
import { CallServer } from './server.ts';
import { Turns } from './turns.ts';

type Env = Readonly<Record<string, string | undefined>>;

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr?: string;
}

/** Where dockerd looks for a driver called sriov first. */
const usualSocket = '/run/docker/plugins/sriov.sock';

/** Of sockaddr_un, with a zero at the end. Node cuts off what is more, and listens elsewhere. */
const maxPathBytes = 107;

const options = {
  socket: { type: 'string' },
  verbose: { type: 'boolean', short: 'v' },
} as const;

/** Runs the driver. Ends between two calls upon SIGTERM or SIGINT. */
export async function runDaemon(args: readonly string[], env: Env): Promise<Outcome> {
  const { words, given } = parseArguments(args, options);
  const values = new Map(given.map(({ name, value }) => [name, value]));
  const unknown = given.find(({ name }) => !Object.hasOwn(options, name))?.rawName ?? words[0];
  if (unknown !== undefined) return wrongUsage(`it takes no "${unknown}"`);
  const path = values.get('socket') ?? '';
  if (values.has('socket') && !/^\/.*[^/]$/s.test(path)) return wrongUsage('--socket takes an absolute path');
  if (new TextEncoder().encode(path).length > maxPathBytes)
    return wrongUsage(`--socket takes a path of at most ${maxPathBytes} bytes`);
  const level = values.has('verbose') ? 'debug' : 'info';
  await serve(values.get('socket') ?? usualSocket, level, env);
  return { exitCode: 0, stdout: '' };
}

function wrongUsage(problem: string): Outcome {
  const stderr = `sriov docker: ${problem} ("sriov help docker" tells more)\n`;
  return { exitCode: 2, stdout: '', stderr };
}

async function serve(socketPath: string, level: 'info' | 'debug', env: Env): Promise<void> {
  const host = thisHost(new Log(level, 'text', undefined, { command: 'docker' }));
  makeFolder(host.stateDir);
  // What one process does for an endpoint goes in turns; two would not know of each other.
  using lock = FileLock.take(`${host.stateDir}/docker.lock`, 0);
  if (!lock) throw new Error('it runs already: another process has the lock /var/lib/cni/sriov/docker.lock');
  const caller = { env };
  using chores = new Chores(host, caller, env['DOCKER_HOST']?.replace(/^unix:\/\//, '') ?? usualApi);
  const server = new CallServer({
    host,
    level,
    caller,
    turns: new Turns(),
    activated: () => chores.sweepSoon(),
    joined: () => chores.learnNamesSoon(),
  });
  const end = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  const inherited = inheritedSocket(env);
  if (inherited !== undefined) await listening(server.http, { fd: inherited });
  else await listenAt(server.http, socketPath);
  host.log.info('Docker network driver listens', {
    socket: inherited === undefined ? socketPath : 'systemd’s',
  });
  chores.doAll();
  host.log.info('ends', { signal: await end });
  await server.end();
  await chores.end();
  if (inherited === undefined) removeFile(socketPath);
}

/** The first socket that systemd has opened for us (sd_listen_fds(3)). */
function inheritedSocket(env: Env): number | undefined {
  const isForUs = env['LISTEN_PID'] === String(process.pid) && Number(env['LISTEN_FDS']) > 0;
  if (!isForUs) return undefined;
  if (isSocket(system.fstat(3))) return 3;
  throw new Error('LISTEN_FDS promises a socket as descriptor 3, which is something else');
}

/** Listens on a socket file of root's; one that nobody serves is replaced. */
async function listenAt(server: Server, path: string): Promise<void> {
  makeFolder(path.slice(0, path.lastIndexOf('/')), 0o755);
  const there = system.stat(path);
  if (there && !isSocket(there)) throw new Error(`Cannot use ${path} as a socket: it is something else`);
  if (await isServed(path)) throw new Error(`another driver serves ${path}`);
  removeFile(path);
  const before = process.umask(0o177); // made by bind(), with no moment at which others may connect
  try {
    await listening(server, { path });
  } finally {
    process.umask(before);
  }
}

/** Whether somebody answers at a socket file. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(new Error(`Cannot use ${path} as a socket: ${error.message}`));
    });
  });
}

function listening(server: Server, where: { path: string } | { fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
