import { refuseImpossible } from '../attach/possible.ts';
import type { Host } from '../vf/host.ts';
import { givenAddresses } from './given-addresses.ts';
import type { Network } from './netavark.ts';
import { wishOfNetwork } from './network-wish.ts';

/**
 * `create`: refuses a network that makes no sense, or could not work on this machine, and returns it as podman shall store it: without
 * name service, since aardvark-dns answers only on bridges of the host, and podman would warn at each start that it is missing.
 */
export async function create(host: Host, network: Network): Promise<string> {
  const { wish, defaultMetric } = wishOfNetwork(network);
  givenAddresses(network, [], defaultMetric);
  await refuseImpossible(host, wish);
  return JSON.stringify({ ...network, dns_enabled: false });
}
