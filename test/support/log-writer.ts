/** Writes numbered lines into a log file, opening it for each as a run of the plugin does: FILE LIMIT NAME COUNT. */
import { closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { Log, openLogFile } from '../../src/kernel/log.ts';

const [file = '', limit, name, count] = process.argv.slice(2);
for (let n = 0; n < Number(count); n++) {
  const fd = openLogFile(file, [dirname(file)], Number(limit));
  new Log('info', 'json', fd).info(`${name}-${n}`);
  closeSync(fd);
}
