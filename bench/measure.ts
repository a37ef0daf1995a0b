import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

/** A program that is run: as the file that measure.c reads. */
export interface Case {
  readonly name: string;
  /** Its path and its arguments, with spaces between them. */
  readonly program: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** One run of it. */
export interface Run {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakMiB: number;
  /** Pages that the kernel had to provide, none of them from the disk. */
  readonly faults: number;
  readonly exitCode: number;
}

/** The call of a CNI plugin. */
export function call(
  name: string,
  program: string,
  command: string,
  pod: string,
  config: object,
  ifname = 'net1',
): Case {
  return {
    name,
    program,
    env: {
      PATH: '/usr/sbin:/usr/bin',
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod,
      CNI_NETNS: `/run/netns/${pod}`,
      CNI_IFNAME: ifname,
      CNI_PATH: '/opt/cni/bin',
    },
    stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'bench', ...config }),
  };
}

export function caseFile({ name, program, env, stdin }: Case): string {
  const variables = Object.entries(env).map(([key, value]) => `${key}=${value}`);
  return [name, program, ...variables, '', stdin].join('\n');
}

/** Compiles measure.c, statically: it runs in the lab, too. Returns its path. */
export function buildMeasure(): string {
  const program = 'dist/measure';
  mkdirSync('dist', { recursive: true });
  const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static'];
  execFileSync(process.env['CC'] ?? 'cc', [...flags, 'bench/measure.c', '-o', program]);
  return program;
}

/** The runs that measure printed, by case. */
export function parseRuns(output: string): Map<string, Run[]> {
  const runs = new Map<string, Run[]>();
  for (const line of output.trim().split('\n')) {
    const [name = '', wall, cpu, peak, faults, exitCode] = line.split('\t');
    const run = {
      wallMs: Number(wall) / 1e3,
      cpuMs: Number(cpu) / 1e3,
      peakMiB: Number(peak) / 1024,
      faults: Number(faults),
      exitCode: Number(exitCode),
    };
    runs.set(name, [...(runs.get(name) ?? []), run]);
  }
  return runs;
}
