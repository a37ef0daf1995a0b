import type { Style } from './table.ts';

/** What a run of the tool ends with. */
export interface Outcome {
  /**
   * 0: done. 1: something is wrong or could not be done. 2: the command line is wrong. 3: `check`
   * found that an ADD would fail.
   */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr?: string;
}

export interface Flags {
  readonly json: boolean;
  readonly dryRun: boolean;
  readonly force: boolean;
  /** PCI address. */
  readonly device: string | undefined;
  /** A file instead of stdout. */
  readonly output: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly style: Style;
}

/** The end of a run whose command line is wrong. */
export function wrongUsage(command: string | undefined, problem: string): Outcome {
  const where = command === undefined ? 'sriov --help' : `sriov help ${command}`;
  const what = command === undefined ? problem : `sriov ${command}: ${problem}`;
  return { exitCode: 2, stdout: '', stderr: `${what} ("${where}" tells more)\n` };
}
