import { resolve } from 'node:path';

const files = { static: 'sriov-static', node: 'sriov' } as const;

function chosen(): keyof typeof files {
  const word = process.env['ENGINE'] || 'static';
  if (Object.hasOwn(files, word)) return word as keyof typeof files;
  throw new Error(`Cannot use ENGINE="${word}": it is "static" or "node"`);
}

/** Which of the two executables is run by the lab, tests and the bench: the variable ENGINE chooses. */
export const engine = chosen();

/** Its path. */
export const builtExecutable = resolve(import.meta.dirname, '../dist', files[engine]);
