import { messageOf } from '../attach/failure.ts';
import { logSettings } from '../attach/open-log.ts';
import type { Options } from '../attach/options.ts';
import { nowMs } from '../kernel/clock.ts';
import { type Fields, Log, type LogLevel, openLogFile, tenths } from '../kernel/log.ts';
import { system } from '../kernel/system.ts';
import type { Host } from '../vf/host.ts';

/**
 * Does the work of one call with the log that its network's options ask for, and writes down there how it ended. A file is open for that long
 * only: a daemon that kept it would write into what has been put aside.
 */
export async function withLog<T>(
  host: Host,
  usualLevel: LogLevel,
  options: Options,
  context: Fields,
  work: (host: Host) => Promise<T> | T,
): Promise<T> {
  const { level, format, file } = logSettings(options, usualLevel);
  const fd = file === undefined ? undefined : openQuietly(host, file);
  const log = new Log(level, format, fd, context);
  const begin = nowMs();
  try {
    const result = await work({ ...host, log });
    log.debug('answered', { ms: tenths(nowMs() - begin) });
    return result;
  } catch (error) {
    log.error('failed', { error: messageOf(error), ms: tenths(nowMs() - begin) });
    log.debug('stack', { stack: error instanceof Error ? error.stack : undefined });
    throw error;
  } finally {
    if (fd !== undefined) system.close(fd);
  }
}

function openQuietly(host: Host, file: string): number | undefined {
  try {
    return openLogFile(file);
  } catch (error) {
    host.log.error('cannot write the log file', { logFile: file, error: messageOf(error) });
    return undefined;
  }
}
