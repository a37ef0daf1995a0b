import { openLog } from '../attach/open-log.ts';
import { withinIpamCall } from '../attach/wish.ts';
import { nowMs } from '../kernel/clock.ts';
import { Log } from '../kernel/log.ts';
import { type Host, thisHost } from '../vf/host.ts';
import { toCniError } from './error-codes.ts';
import { Code, CniError } from './errors.ts';
import { type Command, parseCommand, parseRequest, type Request } from './request.ts';
import { type CniVersion, isAtLeast, parseVersion } from './versions.ts';

/** The first version of the specification that has a command. */
const introducedIn: Partial<Record<Command, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

/**
 * Runs one CNI command.
 * @returns what belongs on stdout: the result of an ADD, else nothing
 * @throws CniError
 */
export async function runCommand(env: Request['env'], stdin: string): Promise<string> {
  const start = nowMs();
  let log = new Log();
  try {
    const request = parseRequest(parseCommand(env), env, stdin);
    const { containerId, ifname } = request.attachment;
    log = openLog(request.config, { command: request.command, containerID: containerId, ifname });
    refuseUnknownToVersion(request);
    refuseWithinIpamCall(request);
    const output = await dispatch(thisHost(log), request);
    log.info(`${request.command} done`, { ms: Math.round((nowMs() - start) * 10) / 10 });
    return output;
  } catch (cause) {
    const error = toCniError(cause);
    log.error(error.message, { code: error.code, details: error.details });
    if (error.code === Code.Internal && cause instanceof Error) log.error(cause.stack ?? '');
    throw error;
  }
}

function refuseUnknownToVersion({ command, config }: Request): void {
  const version = parseVersion(config['cniVersion']);
  const since = introducedIn[command];
  if (since === undefined || isAtLeast(version, since)) return;
  throw new CniError(
    Code.IncompatibleVersion,
    `${command} needs "cniVersion" ${since} or later: this configuration has ${version}`,
  );
}

/** @throws CniError 7 */
function refuseWithinIpamCall({ env }: Request): void {
  if (env[withinIpamCall] === undefined) return;
  throw new CniError(
    Code.InvalidConfig,
    'Invalid network configuration: the plugin that "ipam" names has called this plugin again, which would never end',
  );
}

/** Modules are loaded by the command that needs them: what is loaded is paid for once per pod. */
async function dispatch(host: Host, request: Request): Promise<string> {
  switch (request.command) {
    case 'ADD':
      return (await import('./add.ts')).add(host, request);
    case 'DEL':
      await (await import('./del.ts')).del(host, request);
      return '';
    case 'CHECK':
      await (await import('./check.ts')).check(host, request);
      return '';
    case 'STATUS':
      await (await import('./status.ts')).status(host, request);
      return '';
    case 'GC':
      await (await import('./gc.ts')).gc(host, request);
      return '';
    case 'VERSION':
      throw new Error('VERSION is answered without a host');
  }
}
