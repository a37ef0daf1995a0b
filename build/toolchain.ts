/** Compiles and links C for the static executable: with the machine's compiler or a cross compiler, against musl. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, renameSync } from 'node:fs';
import { promisify } from 'node:util';
import { debian, type Arch } from '../lab/arch.ts';
import type { Sources } from './engine-sources.ts';

const execute = promisify(execFile);

export interface Toolchain {
  /** Compiles a C file, or takes what was made of the same text before. Returns the path of the object. */
  compile(file: string, folders: readonly string[], flags: readonly string[]): Promise<string>;
  /** Assembles a file anew, for what it includes is not part of its text. */
  assemble(file: string, object: string, flags?: readonly string[]): Promise<void>;
  link(executable: string, objects: readonly string[], flags?: readonly string[]): Promise<void>;
  strip(from: string, to: string): Promise<void>;
  /** The lines of `nm`: address, kind, name. */
  symbols(file: string): Promise<readonly string[]>;
  /** The command line that runs an executable of the target on this machine. */
  command(executable: string, args?: readonly string[]): [string, ...string[]];
}

/** What we ask of every object: no address is known before the link, what nobody calls can be dropped, stack smashing is noticed. */
const codeFlags = [
  ...['-std=gnu11', '-O2', '-fno-pie', '-ffunction-sections', '-fdata-sections'],
  ...['-fstack-protector-strong', '-fno-asynchronous-unwind-tables'],
];

async function run(program: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string> {
  try {
    const { stdout } = await execute(program, args, { env: { ...process.env, ...env }, maxBuffer: 1 << 28 });
    return stdout;
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    throw new Error(`${program} ${args.join(' ')} failed:\n${stderr}`, { cause: error });
  }
}

export async function openToolchain(arch: Arch, sources: Sources): Promise<Toolchain> {
  const { library, crossTools, objects } = sources;
  const { triplet } = debian[arch];
  const prefix = crossTools === undefined ? '' : `${crossTools}/usr/bin/${triplet}-gnu-`;
  const cc = crossTools === undefined ? (process.env['CC'] ?? 'cc') : `${prefix}gcc-12`;
  // The cross tools bring their own libraries.
  const env = crossTools === undefined ? {} : { LD_LIBRARY_PATH: `${crossTools}/usr/lib/x86_64-linux-gnu` };
  const tool = (name: string, args: readonly string[]) => run(`${prefix}${name}`, args, env);
  const compiler = (args: readonly string[]) => run(cc, args, env);
  const ask = async (question: string) => (await compiler([question])).trim();

  const musl = `${library}/usr/lib/${triplet}-musl`;
  const libgcc = await ask('-print-libgcc-file-name');
  const includes = [
    `${library}/usr/include/${triplet}-musl`,
    await ask('-print-file-name=include'),
    `${library}/usr/include/${triplet}-gnu`,
    `${library}/usr/include`,
  ];
  const identity = [await ask('--version'), await ask('-dumpmachine')];

  return {
    async compile(file, folders, flags) {
      const args = [
        ...codeFlags,
        '-nostdinc',
        ...[...folders, ...includes].flatMap((folder) => ['-isystem', folder]),
        // No path of this machine gets into the executable.
        ...folders.map((folder) => `-ffile-prefix-map=${folder}=.`),
        ...flags,
      ];
      const text = await compiler([...args, '-E', '-P', file]);
      const key = createHash('sha256')
        .update(JSON.stringify([identity, codeFlags, flags, text]))
        .digest('hex');
      const object = `${objects}/${key.slice(0, 24)}.o`;
      if (existsSync(object)) return object;
      const unfinished = `${object}.${process.pid}`;
      await compiler([...args, '-c', file, '-o', unfinished]);
      renameSync(unfinished, object);
      return object;
    },
    async assemble(file, object, flags = []) {
      await compiler(['-c', ...flags, file, '-o', object]);
    },
    async link(executable, list, flags = []) {
      await compiler([
        ...['-nostdlib', '-static', '-no-pie', '-o', executable, ...flags],
        ...[`${musl}/crt1.o`, `${musl}/crti.o`, ...list],
        ...[`${musl}/libc.a`, libgcc, `${musl}/libc.a`, `${musl}/crtn.o`],
      ]);
    },
    async strip(from, to) {
      await tool('strip', ['-s', '-o', to, from]);
    },
    async symbols(file) {
      return (await tool('nm', [file])).trim().split('\n');
    },
    command(executable, args = []) {
      return crossTools === undefined
        ? [executable, ...args]
        : [`${crossTools}/usr/bin/qemu-aarch64-static`, executable, ...args];
    },
  };
}
