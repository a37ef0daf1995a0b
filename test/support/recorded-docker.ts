/** What dockerd 20.10.24, 26.1.5 and 28.5.2 really sent, recorded on 2026-11-24. Ids are examples. */

export const networkId = '819b3135ae85944951ebdc35abc7b3be80c3dd78e3f6a18ad67e69160694c237';
export const endpointId = '180404eca609cde981328419e2cc6e003b88346ce119b13bbf35de3ed665ec70';
export const sandboxKey = '/run/docker/netns/a56744b17e5e';

const pool = { AddressSpace: 'LocalDefault', Gateway: '10.9.0.1/24', Pool: '10.9.0.0/24' };
const pf = { pf: 'eth9', vlan: '100' };

function network(options: object, more: object = {}) {
  return { NetworkID: networkId, Options: options, IPv4Data: [pool], IPv6Data: [], ...more };
}

/** Bodies of CreateNetwork. */
export const networks = {
  'Docker 20.10 and 26.1': network({
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.generic': pf,
  }),
  'Docker 28.5': network({
    'com.docker.network.enable_ipv4': true,
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.generic': pf,
  }),
  '--internal --ipv6 with gateways': network(
    {
      'com.docker.network.enable_ipv4': true,
      'com.docker.network.enable_ipv6': true,
      'com.docker.network.generic': { pf: 'eth9' },
      'com.docker.network.internal': true,
    },
    {
      IPv4Data: [
        {
          AddressSpace: 'LocalDefault',
          AuxAddresses: { sw: '10.8.0.1/24' },
          Gateway: '10.8.0.254/24',
          Pool: '10.8.0.0/24',
        },
      ],
      IPv6Data: [{ AddressSpace: 'LocalDefault', Gateway: 'fd00:9::1/64', Pool: 'fd00:9::/64' }],
    },
  ),
  '--ipam-driver null': network(
    { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': { pf: 'eth9' } },
    { IPv4Data: [{ AddressSpace: 'null', Pool: '0.0.0.0/0' }] },
  ),
  'com.docker.network.driver.mtu': network({
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.generic': { pf: 'eth9', 'com.docker.network.driver.mtu': '9000' },
  }),
};

const usual = {
  'com.docker.network.endpoint.exposedports': [],
  'com.docker.network.portmap': [],
};
const published = {
  'com.docker.network.endpoint.exposedports': [{ Port: 80, Proto: 6 }],
  'com.docker.network.portmap': [
    { HostIP: '', HostPort: 8080, HostPortEnd: 8080, IP: '', Port: 80, Proto: 6 },
  ],
};

function endpoint(options: object, given: object = {}) {
  return {
    NetworkID: networkId,
    EndpointID: endpointId,
    Interface: { Address: '10.9.0.2/24', AddressIPv6: '', MacAddress: '', ...given },
    Options: options,
  };
}

/** Bodies of CreateEndpoint. */
export const endpoints = {
  run: endpoint(usual),
  'run --mac-address --ip -p --dns': endpoint(
    {
      ...published,
      'com.docker.network.endpoint.dnsservers': ['1.2.3.4'],
      'com.docker.network.endpoint.macaddress': 'AhEiM0RV',
    },
    { Address: '10.9.0.77/24', MacAddress: '02:11:22:33:44:55' },
  ),
  'network connect to two families': endpoint({}, { Address: '10.8.0.128/24', AddressIPv6: 'fd00:9::2/64' }),
  'run with driver options': endpoint(
    { ...usual, 'com.docker.network.endpoint.ifname': 'fast0', vlan: '7' },
    { Address: '10.9.0.99/24' },
  ),
  'run with driver options, MAC and sysctls': endpoint(
    {
      ...usual,
      'com.docker.network.endpoint.macaddress': 'AhEiM0Rm',
      'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.ifname.log_martians=1',
      vlan: '9',
    },
    { MacAddress: '02:11:22:33:44:66' },
  ),
  'run --mac-address with a group address': endpoint(
    { ...usual, 'com.docker.network.endpoint.macaddress': 'AQAAAAAB' },
    { MacAddress: '01:00:00:00:00:01' },
  ),
};

/** Body of Join; Options are those of the endpoint without its own. */
export const joined = {
  NetworkID: networkId,
  EndpointID: endpointId,
  SandboxKey: sandboxKey,
  Options: published,
};

/** Body of Leave, DeleteEndpoint and EndpointOperInfo; of ProgramExternalConnectivity with options. */
export const named = { NetworkID: networkId, EndpointID: endpointId };
