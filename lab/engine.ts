import { resolve } from 'node:path';
import { hostArch, type Arch } from './arch.ts';

const folder = resolve(import.meta.dirname, '../dist');
const files = { static: 'sriov-static', node: 'sriov' } as const;

function chosen(): keyof typeof files {
  const word = process.env['ENGINE'] || 'static';
  if (Object.hasOwn(files, word)) return word as keyof typeof files;
  throw new Error(`Cannot use ENGINE="${word}": it is "static" or "node"`);
}

/** Which of the two executables is run by the lab, tests and the bench: the variable ENGINE chooses. */
export const engine = chosen();

/** Where `make build` puts it for a processor. Only the static one is cross-built. */
export function executableFor(arch: Arch): string {
  if (arch === hostArch) return resolve(folder, files[engine]);
  if (engine === 'static') return resolve(folder, `${files.static}-${arch}`);
  throw new Error(`Cannot use ENGINE="${engine}" for ${arch}: it runs only where it is built`);
}

/** The one for this machine. */
export const builtExecutable = executableFor(hostArch);
