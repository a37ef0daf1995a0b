/**
 * Does once, for the snapshot of the static executable, what every start would do again: zod makes the inside of a schema when it first
 * parses something. Nothing in here calls the system.
 */
import { parseConfig } from './cni/config.ts';
import { CniError, Code, formatError } from './cni/errors.ts';
import { parseCommand, parseRequest } from './cni/request.ts';
import { formatResult, parseResult, toIpConfig } from './cni/result.ts';
import { formatVersion } from './cni/versions.ts';
import { parseObject } from './kernel/json.ts';
import { type PodClaim, parseClaim } from './vf/claim.ts';

const mac = '02:00:00:00:00:01';
const deviceID = '0000:01:10.0';

export const config = {
  ...{ cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID, devices: [deviceID] },
  ...{ vlan: 100, vlanQoS: 3, vlanProto: '802.1q', mac, spoofchk: 'on', trust: 'on', link_state: 'auto' },
  ...{
    min_tx_rate: 0,
    max_tx_rate: 1,
    mtu: 1500,
    rdma: true,
    promisc: false,
    allmulti: false,
    reset: false,
    logLevel: 'info',
    logFormat: 'text',
    ipam: { type: 'host-local' },
  },
  runtimeConfig: { mac, deviceID, CNIDeviceInfoFile: '/run/x', bandwidth: { ingressRate: 0, egressRate: 1 } },
  args: { cni: { mac } },
};

export const variables = {
  CNI_CONTAINERID: 'c',
  CNI_NETNS: '/run/netns/c',
  CNI_IFNAME: 'net1',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p',
  CNI_PATH: '/opt/cni/bin',
};

export const result = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'net1', mac, mtu: 1500, sandbox: '/run/netns/c', pciID: deviceID }],
  ips: [
    { address: '10.0.0.2/24', gateway: '10.0.0.1', interface: 0 },
    { address: 'fd00::2/64', gateway: 'fd00::1', interface: 0 },
  ],
  routes: [
    { dst: '0.0.0.0/0', gw: '10.0.0.1' },
    { dst: '::/0', gw: 'fd00::1' },
  ],
  dns: { nameservers: ['10.0.0.1'] },
};

const settings: PodClaim['asked'] = {
  mac,
  vlan: { id: 100, qos: 0, proto: '802.1q' },
  rateMbps: { min: 0, max: 0 },
  spoofchk: true,
  linkState: 'auto',
  trust: false,
};

const claim: PodClaim = {
  version: 1,
  phase: 'attached',
  since: '2026-01-01T00:00:00.000Z',
  vf: { pci: deviceID, index: 0, pf: { pci: '0000:01:00.0', ifname: 'eth0' } },
  owner: {
    network: 'net',
    containerId: 'c',
    ifname: 'net1',
    netns: { path: '/run/netns/c', cookie: '1', inode: 1 },
    bootId: '',
    pod: 'n/p',
  },
  podIfname: 'net1',
  bond: { ifname: 'bond1', other: deviceID },
  request: { config, cniArgs: '', cniPath: '/opt/cni/bin' },
  rdma: { name: 'mlx5_3', index: 3, files: ['uverbs3'], moves: true },
  asked: settings,
  modes: { promisc: false, allmulti: false },
  reset: false,
  original: {
    driver: 'igbvf',
    settings,
    netdev: { ifname: 'eth1', altnames: ['enp1s0v0'], mac, mtu: 1500, promisc: false, allmulti: false },
  },
  times: { start: 1 },
};

export function warmUp(): void {
  const stdin = JSON.stringify(config);
  const env = { ...variables, CNI_COMMAND: 'ADD' };
  parseConfig(parseRequest(parseCommand(env), env, stdin));
  const bond = { pfs: ['eth0', 'eth1'], mode: 'active-backup', miimon: 100, failOverMac: 1, primary: 'eth0' };
  parseConfig(
    parseRequest('ADD', env, JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'sriov', bond })),
  );
  const parsed = parseResult(result, '1.0.0', 'the IPAM plugin');
  toIpConfig(parsed, 'the IPAM plugin');
  formatResult(parsed, '1.0.0');
  parseClaim('warm-up', JSON.stringify(claim));
  formatVersion(stdin);
  formatError(new CniError(Code.InvalidConfig, ''), '1.0.0');
  parseObject('{}');
}
