import { Failure, messageOf, toLine } from '../attach/failure.ts';
import { openLog } from '../attach/open-log.ts';
import { nowMs } from '../kernel/clock.ts';
import { readFile } from '../kernel/files.ts';
import { Log, tenths } from '../kernel/log.ts';
import { thisHost } from '../vf/host.ts';
import { type Network, parseCall, parseNetwork } from './netavark.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** The version of netavark's plugin API that is spoken here. */
const apiVersion = '1.0.0';

/**
 * Runs one command of netavark's plugin API.
 * @param args `create`, `setup NETNS`, `teardown NETNS` (netavark after 2.1.0: without NETNS where it is gone) or `info`
 * @returns what belongs on stdout
 */
export async function runPlugin(
  [command, netns = '']: readonly string[],
  env: Env,
  readInput: () => string,
  version: string,
): Promise<string> {
  if (command === 'info') return JSON.stringify({ version, api_version: apiVersion });
  const start = nowMs();
  let log = new Log('warning', 'text', undefined, { command });
  try {
    refuseRootless();
    const stdin = readInput();
    const open = ({ options, name }: Network, context: Record<string, string>) =>
      openLog(
        options ?? {},
        { command, network: name, ...context },
        options?.['logFile'] ? 'info' : 'warning',
      );
    if (command === 'create') {
      const network = parseNetwork(stdin);
      log = open(network, {});
      return await (await import('./create.ts')).create(thisHost(log), network);
    }
    const call = parseCall(stdin);
    log = open(call.network, { containerID: call.container_id, ifname: call.network_options.interface_name });
    const { attachmentOf, setup } = await import('./setup.ts');
    const caller = { env };
    let output = '';
    if (command === 'setup') output = await setup(thisHost(log), netns, call, caller);
    else await (await import('./teardown.ts')).teardown(thisHost(log), attachmentOf(netns, call), caller);
    log.info(`${command} done`, { ms: tenths(nowMs() - start) });
    return output;
  } catch (error) {
    log.info('failed', { error: messageOf(error) }); // netavark shows it to the user, who needs it only once
    throw error;
  }
}

/** The id map of whoever is root of the machine itself. */
const allIds = /^\s*0\s+0\s+4294967295\s*$/;

/** Rootless podman calls its plugins in a user namespace, whose root has no right to the host's devices, and does not see them. */
function refuseRootless(): void {
  const map = readFile('/proc/self/uid_map');
  if (map !== undefined && !allIds.test(map))
    throw new Failure(
      'bad wish',
      'A VF belongs to the machine: rootless Podman cannot give it to a container; run podman as root',
    );
}

/** An error in netavark's form. */
export function formatError(error: unknown): string {
  return JSON.stringify({ error: toLine(error) });
}
