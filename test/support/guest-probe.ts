import { build } from 'esbuild';
import { hostArch } from '../../lab/arch.ts';
import type { Machine } from '../../lab/machine.ts';
import { makeExecutable } from '../../build/executable.ts';
import { linkedIn } from '../../build/linked-in.ts';
import type { GuestPrograms } from './guest-probe-entry.ts';

/** Where a machine of the lab has it. */
export const guestProbePath = '/lab/probe';

/** Makes test/support/guest-probe-entry.ts an executable, in the way of the plugin's own, and returns its path. */
export async function makeGuestProbe(workFolder: string): Promise<string> {
  const script = `${workFolder}/probe.js`;
  await build({
    entryPoints: ['test/support/guest-probe-entry.ts'],
    outfile: script,
    bundle: true,
    format: 'iife',
    globalName: 'entry',
    target: 'es2023',
    mainFields: ['module', 'main'],
    plugins: [linkedIn],
  });
  return makeExecutable({ arch: hostArch, script, addon: 'src/kernel/native/system.c', workFolder });
}

/** What came of it: an error is the text that a user would see. */
export interface ProbeOutcome<T> {
  readonly value?: T;
  readonly error?: { readonly name: string; readonly message: string };
}

/** Runs one of its programs in the guest. */
export async function runProbe<N extends keyof GuestPrograms>(
  machine: Machine,
  name: N,
  ...args: Parameters<GuestPrograms[N]>
): Promise<ProbeOutcome<Awaited<ReturnType<GuestPrograms[N]>>>> {
  const env = { name, args: JSON.stringify(args) };
  return JSON.parse(await machine.output(`${guestProbePath} "$name" "$args"`, { env })) as ProbeOutcome<
    Awaited<ReturnType<GuestPrograms[N]>>
  >;
}

/** As {@link runProbe}, for what must succeed. */
export async function probeValue<N extends keyof GuestPrograms>(
  machine: Machine,
  name: N,
  ...args: Parameters<GuestPrograms[N]>
): Promise<Awaited<ReturnType<GuestPrograms[N]>> | undefined> {
  const { value, error } = await runProbe(machine, name, ...args);
  if (error) throw new Error(`${name}: ${error.message}`);
  return value;
}
