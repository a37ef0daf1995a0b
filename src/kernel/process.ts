import { nowMs } from './clock.ts';
import { Errno, isErrno } from './errno.ts';
import { lookAt, readFile } from './files.ts';
import { isRegular, system } from './system.ts';

/** A program that we started and that is killed if we die. */
export interface Child {
  readonly pid: number;
  readonly stdout: number;
}

/** A program that waits for its input, see {@link startWaiting}. */
export interface WaitingChild extends Child {
  readonly stdin: number;
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
  return launch(file, args, env, system.memfd('stdin', stdin), keptFds);
}

/** What a pipe takes from us at once, whether or not anybody reads it: 16 pages (pipe(7)). */
export const pipeBytes = 16 * 4096;

/**
 * As {@link start}, but the program's input is a pipe that is empty as yet: it gets as far as it comes without, beside what we do. If we
 * die, it reads an end of file.
 * @throws FileError if it cannot be started; KernelError
 */
export function startWaiting(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  keptFds: readonly number[] = [],
): WaitingChild {
  const [input, stdin] = system.pipe();
  try {
    return { ...launch(file, args, env, input, keptFds), stdin };
  } catch (error) {
    system.close(stdin);
    throw error;
  }
}

/** Gives a program that waits its input, of at most {@link pipeBytes}, and the end of it. One that does not want it is no error. */
export function give({ stdin }: WaitingChild, text: string): void {
  try {
    system.writeText(stdin, text);
  } catch (error) {
    if (!isErrno(error, Errno.EPIPE)) throw error;
  } finally {
    system.close(stdin);
  }
}

/** Ends a program that waits without its input: it reads an end of file. Whoever does not end by that ends with us. */
export function abandon(child: WaitingChild): void {
  system.close(child.stdin);
  finish(child, 1000);
}

/** Starts a program with this descriptor as its stdin, and closes that here. */
function launch(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  input: number,
  keptFds: readonly number[],
): Child {
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
  return code < 0 ? undefined : endedWith(code, child);
}

/** As {@link finish}, for where this process has other things to do meanwhile: Docker's driver answers other calls. */
export async function whenFinished(child: Child, timeoutMs?: number): Promise<Ended | undefined> {
  const code = await whenEnded(child.pid, timeoutMs);
  return code < 0 ? undefined : endedWith(code, child);
}

/** How long everything else stands still at a time: most children end within that. */
const sliceMs = 100;

/** The exit code of a child, or 128 + signal; -1 if it still runs after timeoutMs. What else this process does goes on meanwhile. */
export async function whenEnded(pid: number, timeoutMs = Infinity): Promise<number> {
  const deadline = nowMs() + timeoutMs;
  for (;;) {
    const leftMs = Math.max(0, deadline - nowMs());
    const code = system.wait(pid, Math.min(sliceMs, leftMs));
    if (code >= 0 || leftMs === 0) return code;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

function endedWith(code: number, child: Child): Ended {
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

/** The first executable of that name in a colon-separated list of folders. @throws FileError where nobody could look */
export function findProgram(name: string, searchPath: string): string | undefined {
  for (const folder of searchPath.split(':')) {
    if (!folder) continue;
    const path = `${folder}/${name}`;
    const found = lookAt(() => (system.access(path, X_OK) ? system.stat(path) : undefined), [Errno.EIO]);
    if (found && isRegular(found)) return path;
  }
  return undefined;
}

/** Whether a path leads to the program that runs now, over links of either kind. */
export function isOwnProgram(path: string): boolean {
  const [it, own] = [system.stat(path), system.stat('/proc/self/exe')];
  return it?.inode === own?.inode && it?.size === own?.size && it?.modifiedMs === own?.modifiedMs;
}
