/**
 * Makes dist/sriov-static, the second executable: src/static.ts and all it imports on QuickJS-ng. For another architecture, which is the
 * argument (arm64), its name is dist/sriov-static-ARCH.
 */
import { copyFileSync, readFileSync, renameSync } from 'node:fs';
import { resolve } from 'node:path';
import { build, type Metafile } from 'esbuild';
import { architecture } from '../lab/arch.ts';
import { quickjs } from './engine-sources.ts';
import { makeExecutable } from './executable.ts';
import { linkedIn } from './linked-in.ts';

const [, , wanted] = process.argv;
const arch = architecture(wanted ?? process.arch);

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

const workFolder = `dist/static/${wanted ?? 'host'}`;
const script = `${workFolder}/sriov.js`;
const entry = 'src/static.ts';
const { metafile } = await build({
  entryPoints: [entry],
  metafile: true,
  outfile: script,
  bundle: true,
  // A stack trace has names and places of this script; the map that leads back to the sources stays beside the executable.
  sourcemap: 'external',
  minifySyntax: true,
  format: 'iife',
  globalName: 'entry',
  target: 'es2023',
  mainFields: ['module', 'main'],
  define: {
    PROGRAM_VERSION: JSON.stringify(version),
    ENGINE_VERSION: JSON.stringify(`QuickJS-ng ${quickjs.version}`),
  },
  plugins: [linkedIn],
  logLevel: 'warning',
});
/** What a command loads when it runs is to be in the snapshot, so the entry imports it, too. */
function checkAllLoaded({ inputs }: Metafile): void {
  const imports = (kind: string, of: readonly { path: string; kind: string }[]) =>
    of.filter((found) => found.kind === kind).map(({ path }) => path);
  const loaded = new Set(imports('import-statement', inputs[entry]?.imports ?? []));
  const late = Object.values(inputs).flatMap((input) => imports('dynamic-import', input.imports));
  const forgotten = [...new Set(late)].filter((path) => !loaded.has(path));
  if (forgotten.length > 0) throw new Error(`${entry} must import ${forgotten.join(', ')}`);
}

checkAllLoaded(metafile);
const executable = await makeExecutable({
  arch,
  script,
  addon: 'src/kernel/native/system.c',
  workFolder: resolve(workFolder),
});
const output = wanted === undefined ? 'dist/sriov-static' : `dist/sriov-static-${wanted}`;
copyFileSync(`${script}.map`, `${output}.js.map`);
renameSync(executable, output);
