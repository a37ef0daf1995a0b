/**
 * What podman 5.4.2 with netavark 1.14.0 and podman 5.8.6 with netavark 1.17.2 really sent, recorded on 2026-11-24. Ids are examples; null
 * stands where they send null.
 */

export const containerId = 'f0ed6678400bca63a34dfc840333f6a3aea0296bae92a9db22145c20ee90543e';
const id = '93d475fea2d0a7d23216c0f38ae474b62d871c6ee2f6138855a027d7932d9767';

/** What every `create` has that the command line does not ask for otherwise. */
const usual = {
  id,
  driver: 'sriov',
  created: '0001-01-01T00:00:00Z',
  ipv6_enabled: false,
  internal: false,
  dns_enabled: true,
};

/** stdin of `create`: what the command line does not say is absent. */
export const created = {
  'with a subnet': {
    ...usual,
    name: 'n1',
    subnets: [{ subnet: '10.9.0.0/24' }],
    options: { pf: 'eth9', vlan: '100' },
  },
  'with every flag': {
    ...usual,
    name: 'n2',
    network_interface: 'eth9',
    subnets: [
      {
        subnet: '10.8.0.0/24',
        gateway: '10.8.0.254',
        lease_range: { start_ip: '10.8.0.129', end_ip: '10.8.0.255' },
      },
    ],
    routes: [{ destination: '10.99.0.0/16', gateway: '10.8.0.1' }],
    ipv6_enabled: true,
    internal: true,
    dns_enabled: false,
    labels: { a: 'b' },
    options: { mtu: '9000' },
  },
  'without a subnet': { ...usual, name: 'n3', options: { pf: 'eth9' } },
  'with --ipam-driver dhcp': {
    ...usual,
    name: 'n5',
    options: { pf: 'eth9' },
    ipam_options: { driver: 'dhcp' },
  },
  'without options': { ...usual, name: 'n6', subnets: [{ subnet: '10.7.0.0/24' }] },
};

const stored = {
  dns_enabled: true,
  driver: 'sriov',
  id,
  internal: false,
  ipv6_enabled: false,
  name: 'n1',
  network_interface: null,
  options: { pf: 'eth9', vlan: '100' },
  ipam_options: null,
  subnets: [{ gateway: '10.9.0.1', lease_range: null, subnet: '10.9.0.0/24' }],
  routes: null,
  network_dns_servers: null,
};

/** A container's part in a call. */
const inNetwork = {
  aliases: ['f0ed6678400b'],
  interface_name: 'eth0',
  static_ips: ['10.9.0.2'],
  static_mac: null,
  options: null,
};

function call(network: object, container: object, portMappings: object[] | null = null) {
  return {
    container_id: containerId,
    container_name: 'c1',
    port_mappings: portMappings,
    network: { ...stored, ...network },
    network_options: { ...inNetwork, ...container },
  };
}
export type RecordedCall = ReturnType<typeof call>;

const port = { container_port: 80, host_ip: '', host_port: 8080, protocol: 'tcp', range: 1 };

/** stdin of `setup`, and of the `teardown` that follows. */
export const calls = {
  run: call({}, {}),
  'run with --mac-address, --ip, an interface name and a port': call(
    {},
    { interface_name: 'fast0', static_ips: ['10.9.0.77'], static_mac: '02:11:22:33:44:55' },
    [port],
  ),
  'run with an option of its own': call({}, { static_ips: ['10.9.0.3'], options: { vlan: '7' } }),
  'a network with every flag': call(
    {
      dns_enabled: false,
      internal: true,
      ipv6_enabled: true,
      network_interface: 'eth9',
      options: { mtu: '9000' },
      routes: [{ destination: '10.99.0.0/16', gateway: '10.8.0.1', metric: null }],
      subnets: [
        {
          gateway: '10.8.0.254',
          lease_range: { end_ip: '10.8.0.255', start_ip: '10.8.0.129' },
          subnet: '10.8.0.0/24',
        },
      ],
    },
    { interface_name: 'eth1', static_ips: ['10.8.0.129'] },
  ),
  'a network without a subnet': call({ options: { pf: 'eth9' }, subnets: null }, { static_ips: null }),
  '--ipam-driver none': call(
    { options: { pf: 'eth9' }, subnets: null, ipam_options: { driver: 'none' }, dns_enabled: false },
    { static_ips: null },
  ),
  '--ipam-driver dhcp': call(
    { options: { pf: 'eth9' }, subnets: null, ipam_options: { driver: 'dhcp' } },
    { static_ips: null },
  ),
};
