/**
 * What starts do, for the build of the static executable, which notes what of the heap is written to meanwhile and lays that together
 * (src/engine/arena.h). Nothing depends on how far a command comes here, but how fast a real one is.
 */
import { runCommand } from '../cni/command.ts';
import { formatError } from '../cni/errors.ts';
import { answeredVersion, formatVersion } from '../cni/versions.ts';
import { end, run } from '../main.ts';
import { config, result, variables } from '../warm-up.ts';
import { vf } from './pretended-node.ts';

async function rehearseCommand(command: string, stdin: string): Promise<void> {
  try {
    await runCommand({ ...variables, CNI_COMMAND: command }, stdin);
  } catch (error) {
    formatError(error, answeredVersion(stdin));
  }
}

/** @returns 0: the exit code of a build that goes on */
export async function rehearse(): Promise<number> {
  const { name, type, ipam } = config;
  const common = { cniVersion: '1.1.0', name, type, ipam };
  const prevResult = { ...result, cniVersion: '1.1.0' };
  for (const device of [{ deviceID: vf }, { deviceID: '0000:ff:1f.7' }, { pf: 'eth0' }]) {
    const stdin = JSON.stringify({ ...common, ...device });
    formatVersion(stdin);
    await rehearseCommand('ADD', stdin);
    await rehearseCommand('CHECK', JSON.stringify({ ...common, ...device, prevResult }));
    await rehearseCommand('DEL', stdin);
  }
  for (const command of ['GC', 'STATUS']) await rehearseCommand(command, JSON.stringify(common));
  await end(await run([], { ...variables, CNI_COMMAND: 'VERSION' }, () => 0));
  return 0;
}
