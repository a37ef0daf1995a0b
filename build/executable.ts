/**
 * Makes a static executable of a bundled script: engine, host, addon and the heap after the script has been loaded. It is linked twice:
 * the first one, whose heap is empty, loads the script and writes its heap to a file; the second has that file where the heap was. The
 * first one runs twice, too: in a rehearsal it tells which blocks of the heap remain and which of them a start writes to or reads, so that
 * they can be laid together.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Arch } from '../lab/arch.ts';
import { provideSources } from './engine-sources.ts';
import { openToolchain, type Toolchain } from './toolchain.ts';

const engineFolder = resolve('src/engine');
const nodeApi = resolve('node_modules/node-api-headers/include');

/** As the engine's own build has them; and optimised further, which saves 5 % of its instructions for 120 kB. */
const engineFlags = ['-D_GNU_SOURCE', '-funsigned-char', '-fwrapv', '-w', '-O3'];
const ourFlags = ['-Wall', '-Wextra', '-Werror'];

const linkFlags = [
  ...[
    '--gc-sections',
    '--build-id=none',
    '-z',
    'relro',
    '-z',
    'now',
    '-z',
    'separate-code',
    '-z',
    'noexecstack',
  ],
  ...['-T', `${engineFolder}/arena.ld`, '-e', 'entry'],
].map((word) => `-Wl,${word}`);

export interface Program {
  readonly arch: Arch;
  /** The bundle: leaves `entry` with main, runTimers and ready behind (src/engine/host.c). */
  readonly script: string;
  /** C file of the addon. */
  readonly addon: string;
  /** Folder for what is made on the way; the file beside it with the suffix .symbols keeps the names of the C functions. */
  readonly workFolder: string;
}

function run(toolchain: Toolchain, executable: string, args: readonly string[], stdin: Buffer): Buffer {
  const [file, ...words] = toolchain.command(executable, args);
  const { status, stdout, stderr, error } = spawnSync(file, words, {
    input: stdin,
    maxBuffer: 1 << 28,
    env: {},
  });
  if (error !== undefined || status !== 0)
    throw new Error(`${basename(executable)} ended with ${status}: ${stderr?.toString() ?? ''}`, {
      cause: error,
    });
  return stdout;
}

const keptBlockSize = 8;
/** Where struct arena_root has how much of the heap a start reads. */
export const readOffset = 16;

/** As host.c has them. */
function ingredients(kept: Buffer, bytecode: Buffer): Buffer {
  const count = Buffer.alloc(8);
  count.writeBigUInt64LE(BigInt(kept.length / keptBlockSize));
  return Buffer.concat([count, kept, bytecode]);
}

/** Symbols that depend on the size of the heap, and arm64's marks of where data is. */
const ofTheHeap = / (arena_start|arena_read_end|arena_end|_end|__end__|\$[dx])$/;

/** The heap is full of addresses of functions and tables: not one may have moved. */
async function checkAddresses(toolchain: Toolchain, first: string, second: string): Promise<void> {
  const [before, after] = (await Promise.all([toolchain.symbols(first), toolchain.symbols(second)])).map(
    (lines) => lines.filter((line) => !ofTheHeap.test(line)).join('\n'),
  );
  if (before !== after)
    throw new Error(`The second link has other addresses than the first: ${first}, ${second}`);
}

/** Builds the program and returns the path of the executable in its work folder. */
export async function makeExecutable({ arch, script, addon, workFolder }: Program): Promise<string> {
  const sources = await provideSources(arch);
  const toolchain = await openToolchain(arch, sources);
  const made = (name: string) => `${workFolder}/${name}`;
  mkdirSync(workFolder, { recursive: true });

  const folders = [sources.quickjs, engineFolder, nodeApi];
  const engine = (name: string) => toolchain.compile(name, folders, engineFlags);
  const ours = (name: string) => toolchain.compile(name, folders, ourFlags);
  const [engineObjects, hostObjects, compilerObject] = await Promise.all([
    Promise.all([
      engine(`${engineFolder}/quickjs-ng.c`),
      ...['libregexp', 'libunicode', 'dtoa'].map((name) => engine(`${sources.quickjs}/${name}.c`)),
    ]),
    Promise.all([
      ...['entry.S', 'host.c', 'napi.c', 'arena.c', 'rehearsal.c'].map((name) =>
        ours(`${engineFolder}/${name}`),
      ),
      ours(addon),
    ]),
    ours(resolve('build/bytecode.c')),
  ]);

  await toolchain.link(made('bytecode'), [compilerObject, ...engineObjects]);
  const text = readFileSync(script);
  const bytecode = run(toolchain, made('bytecode'), [basename(script)], text);

  const link = async (name: string, arenaFlags: readonly string[]) => {
    const arena = made(`${name}-arena.o`);
    await toolchain.assemble(`${engineFolder}/arena.S`, arena, arenaFlags);
    await toolchain.link(made(name), [...hostObjects, ...engineObjects, arena], linkFlags);
  };
  await link('first', []);
  const first = (kept: Buffer) => run(toolchain, made('first'), [], ingredients(kept, bytecode));
  const rehearsed = first(Buffer.alloc(0));
  const heap = first(rehearsed);
  writeFileSync(made('heap'), heap);
  await link('second', [`-DSNAPSHOT="${made('heap')}"`, `-DREAD=${heap.readBigUInt64LE(readOffset)}`]);
  await checkAddresses(toolchain, made('first'), made('second'));
  await toolchain.strip(made('second'), made('executable'));
  return made('executable');
}
