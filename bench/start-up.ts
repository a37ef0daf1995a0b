import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { provide } from '../lab/cache.ts';
import { builtExecutable } from '../lab/engine.ts';
import { hostProgram } from '../lab/host-program.ts';
import { buildMeasure, call, type Case, caseFile, parseRuns, type Run } from './measure.ts';
import { median, ms, quantile, ratio, table } from './table.ts';

const rounds = { warm: 42, cold: 9, burst: 5 };
const warmUps = 2;
const noSuchVf = '0000:ff:1f.7';

/**
 * What a start costs on this very machine: ours beside Debian's host-device, out of the lab's cache, in turn.
 * @param before an executable of ours from another day, beside them
 */
export async function startUp(before?: string): Promise<string> {
  const folder = mkdtempSync(`${tmpdir()}/sriov-bench-`);
  const pod = `bench-${process.pid}`;
  execFileSync('ip', ['netns', 'add', pod]);
  try {
    const sriov = builtExecutable;
    const hostDevice = await fetchHostDevice(folder);
    const measure = resolve(buildMeasure());
    const plugins = { sriov, 'host-device': hostDevice, ...(before === undefined ? {} : { before }) };
    const cases = Object.entries(plugins).flatMap(([name, program]) => {
      const config =
        name === 'host-device' ? { type: name, pciBusID: noSuchVf } : { type: 'sriov', deviceID: noSuchVf };
      return [
        call(`${name} VERSION`, program, 'VERSION', pod, {}),
        call(`${name} refused ADD`, program, 'ADD', pod, config),
      ];
    });
    const run = (mode: string, count: number, chosen: readonly Case[]) => {
      const files = chosen.map((one, i) => {
        writeFileSync(`${folder}/${i}`, caseFile(one));
        return `${folder}/${i}`;
      });
      // What they say about the refusal goes nowhere.
      const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
      return parseRuns(execFileSync(measure, [mode, String(count), ...files], { encoding: 'utf8', stdio }));
    };
    const warm = run('each', rounds.warm + warmUps, cases);
    const cold = new Map<string, Run[]>();
    for (let round = 0; round < rounds.cold; round++) {
      for (const one of cases) {
        execFileSync(measure, ['evict', one.program]);
        const [only] = run('each', 1, [one]).values();
        cold.set(one.name, [...(cold.get(one.name) ?? []), ...(only ?? [])]);
      }
    }
    const burst = new Map(
      cases.map((one) => [one.name, run('together', rounds.burst, new Array<Case>(20).fill(one)).get('all')]),
    );
    const figures = cases.map(({ name, program }) => {
      const runs = warm.get(name)?.slice(warmUps) ?? [];
      const wall = runs.map(({ wallMs }) => wallMs);
      const cpu = runs.map(({ cpuMs }) => cpuMs);
      return {
        name,
        wall: [median(wall), quantile(wall, 0)],
        cpu: [median(cpu), quantile(cpu, 0.1)],
        cold: median((cold.get(name) ?? []).map(({ wallMs }) => wallMs)),
        burst: median((burst.get(name) ?? []).map(({ wallMs }) => wallMs)),
        peakMiB: median(runs.map(({ peakMiB }) => peakMiB)),
        fileMB: statSync(program).size / 1e6,
      };
    });
    const pair = (values: readonly number[]) => values.map(ms).join(' / ');
    return table(
      [
        'start',
        'wall median / min ms',
        'CPU median / p10 ms',
        'cold ms',
        '20 at once ms',
        'peak MiB',
        'file MB',
      ],
      [
        ...figures.map((f) => [
          f.name,
          pair(f.wall),
          pair(f.cpu),
          ms(f.cold),
          ms(f.burst),
          ms(f.peakMiB),
          ms(f.fileMB),
        ]),
        ...['VERSION', 'refused ADD'].flatMap((command) => {
          const ours = figures.find(({ name }) => name === `sriov ${command}`);
          const theirs = figures.find(({ name }) => name === `host-device ${command}`);
          if (!ours || !theirs) return [];
          const each = (a: readonly number[], b: readonly number[]) =>
            a.map((value, i) => ratio(value, b[i] ?? NaN)).join(' / ');
          return [
            [
              `${command}: ratio`,
              each(ours.wall, theirs.wall),
              each(ours.cpu, theirs.cpu),
              ratio(ours.cold, theirs.cold),
              ratio(ours.burst, theirs.burst),
              ratio(ours.peakMiB, theirs.peakMiB),
              ratio(ours.fileMB, theirs.fileMB),
            ],
          ];
        }),
      ],
    );
  } finally {
    execFileSync('ip', ['netns', 'del', pod]);
    rmSync(folder, { recursive: true });
  }
}

/** Debian's host-device, out of the guest's root file system. */
async function fetchHostDevice(folder: string): Promise<string> {
  const { host, disks } = await provide(['base']);
  const path = `${folder}/host-device`;
  const args = ['--cat', '--path=/opt/cni/bin/host-device', disks.base];
  const program = execFileSync(...hostProgram(`${host}/tree`, 'usr/bin/dump.erofs', args), {
    maxBuffer: 1 << 26,
  });
  writeFileSync(path, program, { mode: 0o755 });
  return path;
}
