import type { Host } from '../vf/host.ts';
import { endpointsOf } from './dockerd.ts';
import { listNetworks, removeNetwork, renewNetwork } from './networks.ts';

const dayMs = 24 * 3600 * 1000;
/** Docker's networks are gone for a while, too, where the disk that they are on is not there. */
const patienceMs = 7 * dayMs;

/**
 * Forgets networks that were removed while this driver was away: Docker does not tell of them again. Each record is as old as Docker's last
 * word that it has the network, for which it is asked once a day.
 */
export async function forgetNetworks(host: Host, api: string): Promise<void> {
  for (const { id, ageMs } of listNetworks(host)) {
    if (ageMs < dayMs) continue;
    const found = await endpointsOf(api, id);
    if (found === 'no such network') {
      if (ageMs < patienceMs) continue;
      removeNetwork(host, id);
      host.log.info('network forgotten: Docker has not had it for a week', { network: id });
    } else if (found) renewNetwork(host, id);
  }
}
