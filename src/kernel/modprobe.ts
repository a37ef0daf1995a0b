import { findProgram, start, whenFinished } from './process.ts';

/** modprobe of a large module on a busy node. */
const timeoutMs = 30_000;

/** Loads a kernel module, with its parameters. @returns how that went, for a message of the caller, who looks whether the module is there */
export async function modprobe(module: string, ...parameters: readonly string[]): Promise<string> {
  const path = '/usr/sbin:/sbin:/usr/bin:/bin';
  const program = findProgram('modprobe', path);
  const ended =
    program && (await whenFinished(start(program, [module, ...parameters], { PATH: path }, ''), timeoutMs));
  return ended ? `modprobe ${module} ended with exit code ${ended.code}` : 'modprobe is missing or hangs';
}
