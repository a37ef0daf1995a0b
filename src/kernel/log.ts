import { nowMs, uptimeMs } from './clock.ts';
import { confined, exists, PathRefused } from './files.ts';
import { printable } from './printable.ts';
import { system } from './system.ts';

export const logLevels = ['panic', 'error', 'warning', 'info', 'debug'] as const;
export type LogLevel = (typeof logLevels)[number];
export type LogFormat = 'text' | 'json';
export type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

/** One line per change of the system: to stderr or a file, never to stdout, which belongs to the CNI result. */
export class Log {
  readonly #level: number;
  readonly #format: LogFormat;
  readonly #fd: number;
  readonly #context: Fields;
  /** The context as text, which is the same in nearly all lines. */
  #contextText: string | undefined;

  constructor(level: LogLevel = 'info', format: LogFormat = 'text', fd = 2, context: Fields = {}) {
    this.#level = logLevels.indexOf(level);
    this.#format = format;
    this.#fd = fd;
    this.#context = context;
  }

  /** The same log for lines about something else: its fields come beside or over those of this one. */
  about(context: Fields): Log {
    return new Log(logLevels[this.#level], this.#format, this.#fd, { ...this.#context, ...context });
  }

  error(msg: string, fields?: Fields): void {
    this.#write('error', msg, fields);
  }

  warning(msg: string, fields?: Fields): void {
    this.#write('warning', msg, fields);
  }

  info(msg: string, fields?: Fields): void {
    this.#write('info', msg, fields);
  }

  debug(msg: string, fields?: Fields): void {
    this.#write('debug', msg, fields);
  }

  /** Runs one change of the system and reports it with its duration; a failure is the caller's to report. */
  async change<T>(msg: string, fields: Fields, run: () => Promise<T> | T): Promise<T> {
    const start = nowMs();
    const result = await run();
    this.info(msg, { ...fields, ms: tenths(nowMs() - start) });
    return result;
  }

  #write(level: LogLevel, msg: string, fields: Fields = {}): void {
    if (logLevels.indexOf(level) > this.#level) return;
    const begin = { time: new Date().toISOString(), level, msg, cniName: 'sriov-cni' };
    try {
      // One write per line, so that the lines of several processes do not mix.
      system.writeText(this.#fd, `${this.#line(begin, fields)}\n`);
    } catch {
      // A full disk or a closed stderr must not fail a pod.
    }
  }

  #line(begin: Fields, fields: Fields): string {
    const isOver = Object.keys(fields).some((key) => key in this.#context);
    if (this.#format === 'text' && !isOver) {
      this.#contextText ??= toText(this.#context);
      return [toText(begin), this.#contextText, toText(fields)].filter(Boolean).join(' ');
    }
    const all = { ...begin, ...this.#context, ...fields };
    return this.#format === 'json' ? printable(JSON.stringify(all)) : toText(all);
  }
}

/** A duration as it is logged. */
export function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** Where the time of a command goes: each phase lasts from the end of the one before, the first one from the start of the process. */
export class Phases {
  #last: number;
  readonly #ms: Record<string, number> = {};

  /** @param begin of the first phase, in ms since the process started */
  constructor(begin = 0) {
    this.#last = begin;
  }

  /** Ends a phase; one that comes again adds to the first. */
  end(name: string): void {
    const now = uptimeMs();
    this.#ms[name] = tenths((this.#ms[name] ?? 0) + now - this.#last);
    this.#last = now;
  }

  /** Milliseconds per phase. */
  get ms(): Readonly<Record<string, number>> {
    return { ...this.#ms };
  }
}

/** What stands in quotes as it is. */
const unescaped = /^[ !#-[\]-~]*$/;

function toText(fields: Fields): string {
  let [text, values] = ['', ''];
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    text += `${text && ' '}${key}="${value}"`;
    values += value;
  }
  // Nearly always, and one look at all values costs less than JSON's at each.
  return unescaped.test(values) ? text : toEscapedText(fields);
}

function toEscapedText(fields: Fields): string {
  let text = '';
  for (const [key, value] of Object.entries(fields))
    if (value !== undefined) text += `${text && ' '}${key}=${JSON.stringify(String(value))}`;
  return printable(text);
}

/** Where log files may be. */
const logRoots = ['/var/log'];

/** As the Go plugin: a file of 100 MB is put aside as FILE.1, and five of them are kept. */
const maxBytes = 100 * 1024 * 1024;
const keptFiles = 5;

/** What every line of ours has, and every line of the Go plugin. */
const ourMark = /^[^\n]*\bcniName"?[=:]"sriov-cni"/;
/** Enough of a file for its first line. */
const headBytes = 4096;

function open(place: string): number {
  return system.open(place, system.O_RDWR | system.O_APPEND | system.O_CREAT | system.O_NOFOLLOW, 0o644);
}

/** The beginning of an open file. What we append goes to its end all the same. */
function head(fd: number): string {
  return system.readText(fd, headBytes, 1);
}

/**
 * Opens a log file for appending; one of ours that has grown too big is put aside before.
 * @throws PathRefused also for a file that is no text: a journal or a database must not be written to; FileError
 */
export function openLogFile(
  path: string,
  roots: readonly string[] = logRoots,
  limitBytes = maxBytes,
): number {
  return confined(path, roots, (place) => {
    const fd = open(place);
    const begin = head(fd);
    if (begin.includes('\0')) {
      system.close(fd);
      throw new PathRefused(`"${path}" is not a text file`);
    }
    if (system.fstat(fd).size < limitBytes || !ourMark.test(begin)) return fd;
    try {
      rotate(place, fd);
      return open(place);
    } finally {
      system.close(fd);
    }
  });
}

/** Whether a file is a log of ours: its first line is. Whoever names a file in a network configuration need not own it. */
function isOurs(place: string): boolean {
  const fd = system.open(place, system.O_RDONLY | system.O_NOFOLLOW);
  try {
    return ourMark.test(head(fd));
  } finally {
    system.close(fd);
  }
}

/**
 * FILE.4 becomes FILE.5 and so on, FILE becomes FILE.1; unless one of them is not ours. Any number of processes may do this at once: only
 * who has the lock of the file that still is FILE does, and FILE itself goes last, so the next one can begin only when this is over. Who
 * has FILE open goes on writing into FILE.1: no line is lost.
 */
function rotate(place: string, fd: number): void {
  if (!system.flock(fd, 0)) return; // another process is doing it
  if (system.stat(place)?.inode !== system.fstat(fd).inode) return; // has done it
  const numbered = (n: number) => (n === 0 ? place : `${place}.${n}`);
  const there = Array.from({ length: keptFiles + 1 }, (_, n) => n).filter((n) => exists(numbered(n)));
  if (!there.every((n) => isOurs(numbered(n)))) return;
  for (const n of there.reverse()) if (n < keptFiles) system.rename(numbered(n), numbered(n + 1));
}
