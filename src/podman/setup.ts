import { attach, type Attached } from '../attach/attach.ts';
import { giveBackEarlier } from '../attach/earlier.ts';
import { noPublishedPorts } from '../attach/options.ts';
import { openPodFor } from '../attach/pod.ts';
import type { AddressSource, Attachment, Caller } from '../attach/wish.ts';
import { Phases } from '../kernel/log.ts';
import type { IpConfig } from '../vf/addressing.ts';
import type { Host } from '../vf/host.ts';
import { describe, givenAddresses } from './given-addresses.ts';
import type { Call } from './netavark.ts';
import { wishOfCall } from './network-wish.ts';

/** `setup`: attaches a VF to a container and returns netavark's status block as JSON. */
export async function setup(host: Host, netns: string, call: Call, caller: Caller): Promise<string> {
  const phases = new Phases();
  phases.end('start');
  const { wish, defaultMetric } = wishOfCall(call);
  const config = givenAddresses(call.network, call.network_options.static_ips ?? [], defaultMetric);
  const attachment = attachmentOf(netns, call);
  if (call.port_mappings?.length) host.log.warning(noPublishedPorts, { network: wish.network });
  {
    using pod = openPodFor(host, netns);
    await giveBackEarlier(host, attachment, pod, caller);
  }
  phases.end('earlier');
  const { network } = call;
  const order = {
    attachment,
    wish,
    addresses: config.addresses.length > 0 ? known(config) : undefined,
    // Podman's addresses are Podman's to free: an IPAM plugin is not asked.
    request: { config: { name: network.name, options: network.options ?? {} }, cniArgs: '', cniPath: '' },
    caller,
  };
  return attach(host, order, phases, (attached) => formatStatus(call, config, attached));
}

/** The attachment that a call is about. */
export function attachmentOf(netns: string, { container_id, network_options }: Call): Attachment {
  return { containerId: container_id, netns, ifname: network_options.interface_name };
}

/** Addresses that need no asking. */
function known(config: IpConfig): AddressSource<IpConfig> {
  return () => ({ result: () => config, [Symbol.dispose]: () => undefined });
}

/** A VF in userspace may have no MAC that the kernel knows, and netavark wants one. */
const noMac = '00:00:00:00:00:00';

function formatStatus(
  { network, network_options }: Call,
  config: IpConfig,
  { mac }: Attached<IpConfig>,
): string {
  const own = { mac_address: mac ?? noMac, subnets: describe(config) };
  return JSON.stringify({
    dns_search_domains: [],
    dns_server_ips: network.network_dns_servers ?? [],
    interfaces: { [network_options.interface_name]: own },
  });
}
