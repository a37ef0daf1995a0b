/** `make bench`: runs the benchmarks and prints their tables. Other work on the machine makes the times worthless; the ratios bear more. */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const benchmarks: Readonly<Record<string, (before: string | undefined) => Promise<string>>> = {
  'start-up': async (before) => (await import('./start-up.ts')).startUp(before),
  instructions: async () => (await import('./instructions.ts')).instructions(),
  lab: async (before) => (await import('./lab.ts')).endToEnd(before),
  growth: async () => (await import('./growth.ts')).growth(),
};

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(benchmarks).join(',') },
    out: { type: 'string' },
    // An executable of another day, measured in turn with today's.
    before: { type: 'string' },
  },
});

/** Puts tables into a document, between its marks `<!-- bench NAME -->` and `<!-- end -->`. */
function fillIn(path: string, name: string, text: string): void {
  const document = readFileSync(path, 'utf8');
  const place = new RegExp(`(<!-- bench ${name} -->\\n)[^]*?(\\n<!-- end -->)`);
  if (!place.test(document)) throw new Error(`Cannot find <!-- bench ${name} --> in ${path}`);
  writeFileSync(
    path,
    document.replace(place, (_, start: string, end: string) => `${start}\n${text}\n${end}`),
  );
}

for (const name of values.only.split(',')) {
  const run = benchmarks[name];
  if (!run) throw new Error(`There is no benchmark "${name}": --only ${Object.keys(benchmarks).join(',')}`);
  console.error(`bench: ${name} ...`);
  const text = await run(values.before);
  console.log(`${text}\n`);
  if (values.out !== undefined) fillIn(values.out, name, text);
}
