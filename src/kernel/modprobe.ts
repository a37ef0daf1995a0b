import { findProgram, finish, start } from './process.ts';

/** modprobe of a large module on a busy node. */
const timeoutMs = 30_000;

/** Loads a kernel module, with its parameters. @returns how that went, for a message of the caller, who looks whether the module is there */
export function modprobe(module: string, ...parameters: readonly string[]): string {
  const path = '/usr/sbin:/sbin:/usr/bin:/bin';
  const program = findProgram('modprobe', path);
  const ended = program && finish(start(program, [module, ...parameters], { PATH: path }, ''), timeoutMs);
  return ended ? `modprobe ${module} ended with exit code ${ended.code}` : 'modprobe is missing or hangs';
}
