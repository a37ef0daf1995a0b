import { execFileSync } from 'node:child_process';
import { build } from 'esbuild';
import { hostLocal } from '../test/support/node.ts';
import type { Case } from './measure.ts';
import { BenchNode, pfIfname, sriov, vfs, wallOf } from './lab.ts';
import { ms, ratio, table } from './table.ts';

const rounds = 5;
const ipam = hostLocal('10.3.0.0/16');

/** Does a call get slower with what is there already? Everything in the lab, but a choice among more VFs than the lab's cards have. */
export async function growth(): Promise<string> {
  const bench = await BenchNode.start(4);
  try {
    return [...(await inLab(bench)), await choices()].join('\n\n');
  } finally {
    await bench.stop();
  }
}

async function inLab(bench: BenchNode): Promise<string[]> {
  const pcis = vfs(28);
  const pods = pcis.map((_, i) => `p${i}`);
  await bench.node.pods(...pods);
  const attachments = pcis.map((deviceID, i) => sriov(pods[i] ?? '', { deviceID, ipam }));
  const add = (from: number, to: number) => attachments.slice(from, to).map(([one]) => one);
  const del = (from: number, to: number) => attachments.slice(from, to).map(([, one]) => one);
  /** Median of a repeated ADD and DEL of one attachment. */
  const repeated = async ([addCase, delCase]: readonly [Case, Case]) => {
    const runs = await bench.measure('each', rounds + 1, [addCase, delCase]);
    return [addCase, delCase].map(({ name }) => wallOf(runs.get(name)?.slice(1))) as [number, number];
  };
  const rows: [string, string, string, string][] = [];
  let first: [number, number] | undefined;
  const row = (name: string, [addMs, delMs]: [number, number]) => {
    first ??= [addMs, delMs];
    console.error(`bench: ${name}: ${ms(addMs)} + ${ms(delMs)} ms`);
    rows.push([name, ms(addMs), ms(delMs), ratio(addMs + delMs, first[0] + first[1])]);
  };

  // Attached beside it: 0, 7, 27.
  let attached = 0;
  for (const others of [0, 7, 27]) {
    if (others > attached) await bench.measure('each', 1, add(attached, others));
    attached = others;
    row(`${others + 1} VFs attached`, await repeated(attachments[27] as [Case, Case]));
  }
  await bench.measure('each', 1, del(0, attached));

  const pf = await pfIfname(bench, 0);
  row('a free VF of 7', await repeated(sriov('p0', { pf, ipam })));
  for (const claims of [10, 100, 1000]) {
    await foreignClaims(bench, claims);
    row(`${claims} claims of other VFs`, await repeated(attachments[0] as [Case, Case]));
  }
  await foreignClaims(bench, 0);

  return [
    table(['lab, ms', 'ADD', 'DEL', 'to the first row'], rows),
    await twentyAtOnce(bench, add(0, 20), del(0, 20)),
  ];
}

/** 20 VFs of 3 cards: one after the other, and all at once. */
async function twentyAtOnce(bench: BenchNode, add: readonly Case[], del: readonly Case[]): Promise<string> {
  const oneByOne = async (cases: readonly Case[]) =>
    [...(await bench.measure('each', 1, cases)).values()].flat().reduce((sum, { wallMs }) => sum + wallMs, 0);
  const together = async (cases: readonly Case[]) =>
    wallOf((await bench.measure('together', 1, cases)).get('all'));
  const times = { addOne: [], delAll: [], addAll: [], delOne: [] } as Record<string, number[]>;
  for (let round = 0; round < 2; round++) {
    times['addOne']?.push(await oneByOne(add));
    times['delAll']?.push(await together(del));
    times['addAll']?.push(await together(add));
    times['delOne']?.push(await oneByOne(del));
  }
  const best = (name: string) => Math.min(...(times[name] ?? []));
  return table(
    ['20 VFs of 3 cards, better of 2', 'one after the other ms', 'at once ms', 'ratio'],
    ['ADD', 'DEL'].map((command) => {
      const [one, all] = [best(`${command.toLowerCase()}One`), best(`${command.toLowerCase()}All`)];
      return [command, ms(one), ms(all), ratio(all, one)];
    }),
  );
}

/** Our sources are bundled first: they use syntax that Node 22 lacks. */
async function choices(): Promise<string> {
  await build({
    entryPoints: ['bench/choice.ts'],
    outfile: 'dist/bench/choice.js',
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node22',
    format: 'esm',
    logLevel: 'warning',
  });
  return execFileSync(process.execPath, ['dist/bench/choice.js'], { encoding: 'utf8' }).trim();
}

/** Claims of VFs that this node does not have; they stand in the way of nobody. */
async function foreignClaims(bench: BenchNode, count: number): Promise<void> {
  await bench.node.sh(`
    cd /var/lib/cni/sriov/claims
    rm -f 00f0:*.json
    for ((i = 0; i < ${count}; i++)); do
      printf -v pci '00f0:%02x:%02x.%x' $((i >> 8)) $((i >> 3 & 31)) $((i & 7))
      echo '{"version":1,"phase":"attached","since":"2026-01-01T00:00:00.000Z",
        "vf":{"pci":"'$pci'","index":0,"pf":{"pci":"00f0:ff:00.0"}},
        "owner":{"network":"n","containerId":"other-'$i'","ifname":"net1","bootId":"b",
          "netns":{"path":"/run/netns/p1","inode":1}},
        "podIfname":"net1","request":{"config":{},"cniArgs":"","cniPath":""},
        "asked":{},"original":{"settings":{}}}' > $pci.json
    done`);
}
