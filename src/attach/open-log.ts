import { type Fields, Log, type LogFormat, type LogLevel, logLevels, openLogFile } from '../kernel/log.ts';

type Config = Readonly<Record<string, unknown>>;

/** Where and how to log: read leniently, since a DEL must work with any configuration, and a refused one is worth a line in the log. */
export function logSettings(
  config: Config,
  usualLevel: LogLevel = 'info',
): { level: LogLevel; format: LogFormat; file: string | undefined } {
  const given = { logLevel: '', logFile: '', logFormat: '' };
  for (const key of Object.keys(given) as (keyof typeof given)[]) {
    const value = Object.entries(config).find(([name]) => name.toLowerCase() === key.toLowerCase())?.[1];
    if (typeof value === 'string') given[key] = value;
  }
  const level = given.logLevel.toLowerCase() as LogLevel;
  return {
    level: logLevels.includes(level) ? level : usualLevel,
    format: given.logFormat === 'json' ? 'json' : 'text',
    file: given.logFile || undefined,
  };
}

/** Opens the log that a network's configuration asks for; stderr where it asks for none, or for one that cannot be written. */
export function openLog(config: Config, context: Fields, usualLevel?: LogLevel): Log {
  const { level, format, file } = logSettings(config, usualLevel);
  if (file === undefined) return new Log(level, format, undefined, context);
  try {
    return new Log(level, format, openLogFile(file), context);
  } catch (error) {
    const log = new Log(level, format, undefined, context);
    log.error('cannot write the log file', { logFile: file, error: (error as Error).message });
    return log;
  }
}
