import { supportedVersions } from '../../src/cni/versions.ts';
import { commands } from '../../src/cni/request.ts';
import type { Random } from './random.ts';

/** A call of the plugin, whatever is wrong with it. */
export interface FuzzedCall {
  readonly env: Record<string, string>;
  readonly stdin: string;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Make = (random: Random) => Json;

/** What a JSON value can be that nobody expects. */
const oddities: readonly Json[] = [
  null, true, false, 0, -1, 1.5, 4095, 2 ** 31, 1e308, '', ' ', 'on', '802.1Q', '../../etc/passwd', '/etc/passwd', '\u0000',
  'é', '\ud83d\ude00', '{', '%s%n', '__proto__', 'a'.repeat(300), [], [[]], {}, { a: { b: {} } }, [null], ['x', 1], { constructor: 1 },
]; // prettier-ignore

const oneOf =
  (...values: Json[]): Make =>
  (random) =>
    random.pick(values);
const mac: Make = oneOf('02:00:00:00:00:01', '02-00-00-00-00-02', '0200.0000.0003', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '02:00:00:00:00'); // prettier-ignore
const pci: Make = oneOf(
  '0000:01:10.0',
  '0000:01:10.2',
  '01:10.0',
  '0000:99:00.0',
  '0000:01:00.0',
  '0000:01:10.8',
);
const rate: Make = oneOf(0, 1, 100, 10_000, 4_294_967_296);
const onOff: Make = oneOf('on', 'off', 'true', true);

const prevResult: Make = (random) => ({
  cniVersion: random.pick(supportedVersions),
  interfaces: [{ name: 'net1', mac: mac(random), sandbox: '/run/netns/a', mtu: 1500 }],
  ips: [{ address: random.pick(['10.0.0.2/24', '10.0.0.2', 'fd00::2/64', 'x']), interface: random.below(3), version: '4' }],
  routes: [{ dst: '0.0.0.0/0', gw: random.pick(['10.0.0.1', 'fd00::1', '']) }],
  dns: {},
}); // prettier-ignore

const ipam: Make = (random) => ({
  type: random.pick(['host-local', 'static', 'missing', '', '../sh', 5] as Json[]),
  ranges: [[{ subnet: random.pick(['10.0.0.0/24', 'fd00::/64', 'x']) }]],
  addresses: [{ address: random.pick(['10.1.0.5/24', 'fd01::5/64', '10.1.0.5']) }],
});

/** Every key that anybody sends, with what it may hold, right and wrong. */
const values: Record<string, Make> = {
  deviceID: pci,
  pciBusID: pci,
  pf: oneOf('eth0', '0000:01:00.0', 'eth0#0-1', ['eth0', 'eth1#1'], 'eth0#9', '#', 'lo'),
  vf: oneOf(0, 1, 7, -1),
  driver: oneOf('igbvf', ['igbvf', 'vfio-pci'], 'x'),
  vlan: oneOf(0, 1, 100, 4094, 4095, '100'),
  vlanQoS: oneOf(0, 3, 7, 8),
  vlanProto: oneOf('802.1q', '802.1ad', '802.1AD', 'x'),
  mac,
  spoofchk: onOff,
  trust: onOff,
  link_state: oneOf('auto', 'enable', 'disable', 'up'),
  min_tx_rate: rate,
  max_tx_rate: rate,
  'max-tx-rate': rate,
  mtu: oneOf(67, 68, 1400, 1500, 9000, 65_536),
  dpdk: oneOf(true, false, { driver: 'vfio-pci' }, { kernel_driver: 'igbvf', dpdk_driver: 'x' }),
  ipam,
  logLevel: oneOf('debug', 'panic', 'x'),
  logFile: oneOf('/var/log/sriov.log', '/etc/cron.d/x', '../x'),
  logFormat: oneOf('json', 'x'),
  runtimeConfig: (random) => ({
    mac: mac(random),
    deviceID: pci(random),
    ips: ['10.0.0.9/24'],
    CNIDeviceInfoFile: random.pick(['/var/run/k8s.cni.cncf.io/devinfo/cni/x', '/etc/x', '../x']),
    bandwidth: { egressRate: random.below(1e9), ingressRate: random.below(2) },
  }),
  args: (random) => ({ cni: { mac: mac(random), ips: [] } }),
  prevResult,
  capabilities: oneOf({ mac: true, ips: true }),
  dns: oneOf({}, { nameservers: ['10.0.0.1'] }),
  'cni.dev/valid-attachments': oneOf([{ containerID: 'a', ifname: 'net1' }], null, [], [{}], 'x'),
  'cni.dev/attachments': oneOf([{ containerID: 'a', ifname: 'net1' }], null, [], [{}], 'x'),
  master: oneOf('eth0', 'lo'),
  if0: oneOf('eth0'),
  if0name: oneOf('net0', 'eth0', '../x'),
  l2enable: oneOf(true, false),
  pfOnly: oneOf(true, false),
  disableCheck: oneOf(true, false),
};

function fuzzedConfig(random: Random): Json {
  const config: { [key: string]: Json } = {
    name: 'net',
    type: 'sriov',
    cniVersion: random.pick(supportedVersions),
  };
  const keys = Object.keys(values);
  for (let count = random.below(7); count > 0; count--) {
    const key = random.pick(keys);
    config[key] = random.chance(0.12) ? random.pick(oddities) : (values[key] as Make)(random);
  }
  if (random.chance(0.08)) config[random.pick(['name', 'cniVersion', 'type'])] = random.pick(oddities);
  if (random.chance(0.05)) config[`x${random.below(9)}`] = random.pick(oddities);
  if (random.chance(0.05)) return random.pick(oddities);
  return config;
}

function fuzzedStdin(random: Random): string {
  const text = JSON.stringify(fuzzedConfig(random));
  if (random.chance(0.95)) return text;
  const at = random.below(text.length + 1);
  return random.chance(0.5)
    ? text.slice(0, at)
    : `${text.slice(0, at)}${random.pick(['\u0000', '}', '"', '\\'])}${text.slice(at)}`;
}

/** An ADD with nothing wrong, which the lab's card can do. */
export function rightCall(random: Random): FuzzedCall {
  const config = {
    cniVersion: random.pick(['0.4.0', '1.0.0', '1.1.0']),
    name: 'net',
    type: 'sriov',
    ...random.pick([{ deviceID: '0000:01:10.0' }, { pf: ['0000:01:00.0', '0000:02:00.0'] }]),
    vlan: random.pick([0, 1, 100, 4094]),
    trust: random.pick(['on', 'off']),
    mtu: random.pick([68, 1400, 1500]),
  };
  const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a', CNI_NETNS: '/run/netns/a', CNI_IFNAME: 'net1', CNI_PATH: '/opt/cni/bin' }; // prettier-ignore
  return { env, stdin: JSON.stringify(config) };
}

/** A call made of parts that are right nine times in ten, so that it comes far before it fails; one in ten has nothing wrong. */
export function fuzzedCall(random: Random): FuzzedCall {
  if (random.chance(0.1)) return rightCall(random);
  const often = (right: string, ...wrong: string[]) => (random.chance(0.93) ? right : random.pick(wrong));
  const env: Record<string, string> = {
    CNI_COMMAND: often(random.pick(['ADD', 'ADD', 'ADD', ...commands]), '', 'add', 'DELETE'),
    CNI_CONTAINERID: often('a', '', '../a', 'b', 'x'.repeat(200)),
    CNI_NETNS: often(
      '/run/netns/a',
      '',
      '/run/netns/none',
      '/etc/passwd',
      '/proc/self/ns/net',
      '/proc/self/ns/mnt',
    ),
    CNI_IFNAME: often('net1', '', 'lo', 'a/b', 'eth0', 'seventeen-letters', '.'),
    CNI_ARGS: often(random.pick(['', 'IgnoreUnknown=1;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n', 'MAC=02:00:00:00:00:09']), '=', 'x', 'A=B', ';;', 'VF=1;VLAN=5;MAC=zz'), // prettier-ignore
    CNI_PATH: often('/opt/cni/bin', '', '/none', ':::'),
  };
  if (random.chance(0.05)) env[random.pick(Object.keys(env))] = '';
  return { env, stdin: fuzzedStdin(random) };
}
