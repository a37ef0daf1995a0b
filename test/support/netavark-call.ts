import { commonOptions } from './crash.ts';

interface Extra {
  readonly network?: string;
  readonly mac?: string;
}

/** What netavark sends for a container in a network with every option, and those given here. */
export function netavarkCall(container: string, options: object = {}, extra: Extra = {}): string {
  const { network = 'fast', mac = '02:00:00:00:c0:01' } = extra;
  return JSON.stringify({
    container_id: container,
    container_name: container,
    port_mappings: null,
    network: {
      name: network,
      options: { ...commonOptions, ...options },
      subnets: [{ subnet: '10.9.0.0/24', gateway: '10.9.0.1', lease_range: null }],
      internal: false,
    },
    network_options: {
      interface_name: 'eth0',
      static_ips: ['10.9.0.2'],
      static_mac: mac,
      options: null,
    },
  });
}
