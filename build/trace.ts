/** Rewrites a stack trace of the static executable on stdin: places in its script become places in the sources. Argument: its map. */
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';

const [, , file = 'dist/sriov-static.js.map'] = process.argv;
const map = new SourceMap(JSON.parse(readFileSync(file, 'utf8')) as SourceMapPayload);

const text = readFileSync(0, 'utf8').replaceAll(/sriov\.js:(\d+):(\d+)/g, (place, line, column) => {
  const found = map.findEntry(Number(line) - 1, Number(column) - 1);
  if (!('originalSource' in found)) return place;
  const source = found.originalSource.replace(/^(\.\.\/)+/, '');
  return `${source}:${found.originalLine + 1}:${found.originalColumn + 1}`;
});
process.stdout.write(text);
