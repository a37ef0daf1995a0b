/** Takes the picture of the terminal for the documentation: docs/list.svg, with what `sriov list` shows in the lab. */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { startLab } from './lab.ts';
import { terminalSvg } from './svg.ts';

const columns = 120;

const machine = await startLab({ pfs: 2 });
try {
  await machine.output(readFileSync('lab/picture.sh', 'utf8'), { timeoutMs: 300_000 });
  const chunks: Buffer[] = [];
  const text = () => Buffer.concat(chunks).toString();
  machine.terminal.on('data', (chunk: Buffer) => chunks.push(chunk));
  // A terminal forgets its size when nobody has it open.
  await machine.output(`
    exec 3<>/dev/hvc0
    stty rows 24 cols ${columns} <&3
    echo '# sriov list' >&3
    TERM=linux sriov list >&3
    echo '# ' >&3`);
  for (let tries = 0; tries < 100 && !/\n# \r?\n$/.test(text()); tries++) await setTimeout(100);
  const shown = text().slice(text().indexOf('# sriov list'));
  writeFileSync('docs/list.svg', terminalSvg(shown, columns));
  process.stdout.write(shown);
} finally {
  await machine.stop();
}
