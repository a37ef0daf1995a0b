/**
 * What starts do, for the build of the static executable, which notes what of the heap is read and written to meanwhile and lays that together
 * (src/engine/arena.h). Nothing depends on how far a command comes here, but how fast a real one is.
 */
import { config, result, variables } from '../warm-up.ts';
import { giveStdin, vf } from './pretended-node.ts';

type Main = (args: readonly string[], env: Readonly<Record<string, string>>) => Promise<unknown>;

/** @returns 0: the exit code of a build that goes on */
export async function rehearse(main: Main): Promise<number> {
  const call = async (command: string, stdin: object, more = {}) => {
    giveStdin(JSON.stringify(stdin));
    await main([], { ...variables, ...more, CNI_COMMAND: command });
  };
  const { name, type, ipam } = config;
  const common = { cniVersion: '1.0.0', name, type };
  const requests = [
    { ...common, deviceID: vf, ipam },
    { ...common, cniVersion: '1.1.0', deviceID: vf },
    { ...common, cniVersion: '0.4.0', pf: 'eth0', vlan: 100, spoofchk: 'on', trust: 'off', ipam },
    { ...common, deviceID: '0000:ff:1f.7' },
  ];
  for (const request of requests) {
    await call('ADD', request);
    await call('CHECK', { ...request, prevResult: { ...result, cniVersion: request.cniVersion } });
    await call('DEL', request);
  }
  await call('ADD', common, { CNI_ARGS: '' });
  for (const command of ['GC', 'STATUS', 'VERSION'])
    await call(command, { ...common, cniVersion: '1.1.0', ipam });
  return 0;
}
