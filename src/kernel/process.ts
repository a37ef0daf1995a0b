import { accessSync, closeSync, constants, readFileSync, statSync, writeSync } from 'node:fs';
import { native } from './native.ts';

/** A program that we started and that is killed if we die. */
export interface Child {
  readonly pid: number;
  readonly stdout: number;
}

/**
 * Starts a program with this text on its stdin; it runs beside us. Input and output are anonymous files, so neither side ever waits for
 * a pipe. keptFds stay open in it: a lock it keeps is held until it is gone.
 */
export function start(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  stdin: string,
  keptFds: readonly number[] = [],
): Child {
  const input = native.memfd('stdin');
  const stdout = native.memfd('stdout');
  try {
    const bytes = Buffer.from(stdin);
    // At explicit positions, so that the file's own position, which the child shares, stays at the start.
    for (let written = 0; written < bytes.length;) {
      written += writeSync(input, bytes, written, bytes.length - written, written);
    }
    const variables = Object.entries(env).flatMap(([key, value]) =>
      value === undefined ? [] : [`${key}=${value}`],
    );
    return { pid: native.spawn(file, [file, ...args], variables, input, stdout, keptFds), stdout };
  } finally {
    closeSync(input);
  }
}

/** Waits for a program; returns its exit code (128 + signal if it was killed) and output, or undefined if it still runs after timeoutMs. */
export function finish(
  child: Child,
  timeoutMs = -1,
): { readonly code: number; readonly stdout: string } | undefined {
  const code = native.wait(child.pid, timeoutMs);
  if (code < 0) return undefined;
  const stdout = readFileSync(`/proc/self/fd/${child.stdout}`, 'utf8');
  closeSync(child.stdout);
  return { code, stdout };
}

/** The first executable of that name in a colon-separated list of folders. */
export function findProgram(name: string, searchPath: string): string | undefined {
  for (const folder of searchPath.split(':')) {
    if (!folder) continue;
    const path = `${folder}/${name}`;
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not there: look in the next folder
    }
  }
  return undefined;
}
