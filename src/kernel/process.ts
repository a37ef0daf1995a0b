import { readFile } from './files.ts';
import { isRegular, system } from './system.ts';

/** A program that we started and that is killed if we die. */
export interface Child {
  readonly pid: number;
  readonly stdout: number;
}

/** How a program ended. */
export interface Ended {
  /** 128 + signal if it was killed. */
  readonly code: number;
  /** What it wrote, up to {@link maxOutputBytes}. */
  readonly stdout: string;
  /** Whether it wrote more than that. */
  readonly isCut: boolean;
}

/** The answer of an IPAM plugin has some hundred bytes, and with a thousand routes 64 KB. */
export const maxOutputBytes = 256 * 1024;

/**
 * Starts a program with this text on its stdin; it runs beside us. Input and output are anonymous files, so neither side ever waits for
 * a pipe. keptFds stay open in it: a lock it keeps is held until it is gone.
 * @throws FileError if it cannot be started
 */
export function start(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  stdin: string,
  keptFds: readonly number[] = [],
): Child {
  const input = system.memfd('stdin', stdin);
  let stdout: number | undefined;
  try {
    stdout = system.memfd('stdout', '');
    const variables = Object.entries(env).flatMap(([key, value]) =>
      value === undefined ? [] : [`${key}=${value}`],
    );
    return { pid: system.spawn(file, [file, ...args], variables, input, stdout, keptFds), stdout };
  } catch (error) {
    if (stdout !== undefined) system.close(stdout);
    throw error;
  } finally {
    system.close(input);
  }
}

/** Waits for a program; undefined if it still runs after timeoutMs. */
export function finish(child: Child, timeoutMs = -1): Ended | undefined {
  const code = system.wait(child.pid, timeoutMs);
  if (code < 0) return undefined;
  // Anew, because our descriptor stands where the program's does: at the end.
  const fd = system.open(`/proc/self/fd/${child.stdout}`, system.O_RDONLY);
  system.close(child.stdout);
  try {
    const isCut = system.fstat(fd).size > maxOutputBytes;
    return { code, stdout: system.readText(fd, maxOutputBytes, 1), isCut };
  } finally {
    system.close(fd);
  }
}

/** When a process started, in clock ticks since the boot: with its id, what tells it from any other. Undefined if there is none. */
export function startOf(pid: number): string | undefined {
  // Its name comes before, in brackets, and can hold anything (proc_pid_stat(5)).
  const text = readFile(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}

const X_OK = 1;

/** The first executable of that name in a colon-separated list of folders. */
export function findProgram(name: string, searchPath: string): string | undefined {
  for (const folder of searchPath.split(':')) {
    if (!folder) continue;
    const path = `${folder}/${name}`;
    if (!system.access(path, X_OK)) continue;
    const found = system.stat(path);
    if (found && isRegular(found)) return path;
  }
  return undefined;
}

/** Whether a path leads to the program that runs now, over links of either kind. */
export function isOwnProgram(path: string): boolean {
  const [it, own] = [system.stat(path), system.stat('/proc/self/exe')];
  return it?.inode === own?.inode && it?.size === own?.size && it?.modifiedMs === own?.modifiedMs;
}
