import { refuseNoDevice } from '../attach/possible.ts';
import { checkWritable } from '../kernel/files.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable } from '../vf/inventory.ts';
import { Unsupported } from '../vf/settings.ts';
import { parseConfig } from './config.ts';
import { Code, CniError } from './errors.ts';
import { checkIpam } from './ipam.ts';
import type { Request } from './request.ts';

/**
 * STATUS: could an ADD ever work now? A pool whose VFs are all in use is no reason to say no: the
 * node would go NotReady by being used.
 * @throws CniError 50 with the reason, 51 where the IPAM plugin says so, 7 for a wrong configuration
 */
export async function status(host: Host, request: Request): Promise<void> {
  const conf = parseConfig(request);
  try {
    checkWritable(host.stateDir);
  } catch (error) {
    throw new CniError(
      Code.NotAvailable,
      `Cannot keep state in ${host.stateDir}: ${(error as Error).message}`,
      undefined,
      { cause: error },
    );
  }
  try {
    await refuseNoDevice(host, conf);
  } catch (error) {
    if (!(error instanceof NotUsable || error instanceof Unsupported)) throw error;
    throw new CniError(Code.NotAvailable, error.message, undefined, { cause: error });
  }
  if (conf.hasIpam) await checkIpam(request);
}
