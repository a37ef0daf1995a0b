import { nowMs } from '../kernel/clock.ts';
import { readFile } from '../kernel/files.ts';
import { Log, openLogFile } from '../kernel/log.ts';
import { Netns } from '../kernel/netns.ts';
import { Sysfs } from '../kernel/sysfs.ts';
import type { Host } from '../vf/host.ts';
import { logSettings } from './config.ts';
import { toCniError } from './error-codes.ts';
import { Code, CniError } from './errors.ts';
import { type Command, parseCommand, parseRequest, type Request } from './request.ts';
import { type CniVersion, isAtLeast, parseVersion } from './versions.ts';

const stateDir = '/var/lib/cni/sriov';

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
    log = openLog(request);
    refuseUnknownToVersion(request);
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

function openLog(request: Request): Log {
  const { containerId, ifname } = request.attachment;
  const context = { command: request.command, containerID: containerId, ifname };
  const { level, format, file } = logSettings(request.config);
  if (file === undefined) return new Log(level, format, undefined, context);
  try {
    return new Log(level, format, openLogFile(file), context);
  } catch (error) {
    const log = new Log(level, format, undefined, context);
    log.error('cannot write the log file', { logFile: file, error: (error as Error).message });
    return log;
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

/** The machine that this program runs on. */
export function thisHost(log: Log): Host {
  const bootId = readFile('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return { sys: new Sysfs(), netns: Netns.current(), stateDir, bootId, log };
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
      (await import('./status.ts')).status(host, request);
      return '';
    case 'GC':
      await (await import('./gc.ts')).gc(host, request);
      return '';
    case 'VERSION':
      throw new Error('VERSION is answered without a host');
  }
}
