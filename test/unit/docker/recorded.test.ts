import { describe, expect, test } from 'vitest';
import { wishOfEndpoint, wishOfNetwork } from '../../../src/docker/endpoint-wish.ts';
import { readMellanoxNetwork } from '../../../src/docker/mellanox.ts';
import { type Network, networkOf } from '../../../src/docker/networks.ts';
import { parseBody, schemas } from '../../../src/docker/protocol.ts';
import { endpoints, joined, named, networkId, networks } from '../../support/recorded-docker.ts';
import { temporaryTree } from '../../support/sysfs-tree.ts';

const networkFrom = (recorded: object) =>
  networkOf(parseBody(schemas.CreateNetwork, JSON.stringify(recorded)));
const endpointFrom = (recorded: object) => parseBody(schemas.CreateEndpoint, JSON.stringify(recorded));
const wishFrom = (network: object, endpoint: object) =>
  wishOfEndpoint(networkFrom(network), endpointFrom(endpoint));
/** A network with these options. */
const withOptions = (options: Record<string, string>): Network => ({
  version: 1,
  id: networkId,
  options,
  internal: false,
});

const pool = { kind: 'pool', pool: { pfs: [{ pf: 'eth9' }] } };
const vlan = (id: number) => ({ id, qos: 0, proto: '802.1q' });

describe('CreateNetwork as recorded', () => {
  test.each<[keyof typeof networks, object]>([
    ['Docker 20.10 and 26.1', { internal: false, gateway: '10.9.0.1', gatewayV6: undefined }],
    ['Docker 28.5', { internal: false, gateway: '10.9.0.1', gatewayV6: undefined }],
    ['--internal --ipv6 with gateways', { internal: true, gateway: '10.8.0.254', gatewayV6: 'fd00:9::1' }],
    ['--ipam-driver null', { internal: false, gateway: undefined, gatewayV6: undefined }],
    ['com.docker.network.driver.mtu', { options: { 'com.docker.network.driver.mtu': '9000' } }],
  ])('%s', (name, expected) => {
    expect(networkFrom(networks[name])).toMatchObject({ id: networkId, ...expected });
    expect(wishOfNetwork(networkFrom(networks[name])).wish.device).toMatchObject(pool);
  });

  test('the MTU by Docker’s own name', () => {
    expect(wishOfNetwork(networkFrom(networks['com.docker.network.driver.mtu'])).wish.mtu).toBe(9000);
  });

  test('numbers and truth values, as compose files have them, are text', () => {
    const generic = { pf: 'eth9', vlan: 100, trust: true };
    const network = networkFrom({ NetworkID: networkId, Options: { 'com.docker.network.generic': generic } });
    expect(wishOfNetwork(network).wish.settings).toMatchObject({ vlan: vlan(100), trust: true });
  });
});

describe('CreateEndpoint as recorded', () => {
  test.each<[keyof typeof endpoints, object]>([
    ['run', { vlan: vlan(100), mac: undefined }],
    ['run --mac-address --ip -p --dns', { vlan: vlan(100), mac: '02:11:22:33:44:55' }],
    ['network connect to two families', { vlan: vlan(100) }],
    ['run with driver options', { vlan: vlan(7) }],
    ['run with driver options, MAC and sysctls', { vlan: vlan(9), mac: '02:11:22:33:44:66' }],
  ])('%s', (name, settings) => {
    const { wish, join } = wishFrom(networks['Docker 28.5'], endpoints[name]);
    expect(wish).toMatchObject({ device: pool, settings });
    expect(join).toEqual({ prefix: 'eth', hasGateway: true });
  });

  test('a MAC that no interface can have is refused', () => {
    const recorded = endpoints['run --mac-address with a group address'];
    expect(() => wishFrom(networks['Docker 28.5'], recorded)).toThrow(
      /MAC "01:00:00:00:00:01" is not allowed/,
    );
  });

  test('an internal network has no gateway', () => {
    expect(wishFrom(networks['--internal --ipv6 with gateways'], endpoints.run).join.hasGateway).toBe(false);
  });
});

describe('options of this door', () => {
  const { run } = endpoints;
  test.each<[Record<string, string>, Record<string, string>, object]>([
    [{}, {}, { prefix: 'eth', hasGateway: true }],
    [{ prefix: 'fast' }, {}, { prefix: 'fast', hasGateway: true }],
    [{ prefix: 'fast' }, { PREFIX: 'slow' }, { prefix: 'slow', hasGateway: true }],
    [{ gateway: 'none' }, {}, { prefix: 'eth', hasGateway: false }],
    [{}, { gateway: 'none' }, { prefix: 'eth', hasGateway: false }],
  ])('%j and %j', (ofNetwork, ofEndpoint, expected) => {
    const call = endpointFrom({ ...run, Options: { ...run.Options, ...ofEndpoint } });
    expect(wishOfEndpoint(withOptions({ pf: 'eth9', ...ofNetwork }), call).join).toEqual(expected);
  });

  test.each<[Record<string, string>, RegExp]>([
    [{}, /names no device: -o pf=/],
    [{ pf: 'eth9', prefix: 'eth0' }, /"prefix": "eth0" is not allowed/],
    [{ pf: 'eth9', prefix: '' }, /"prefix": "" is not allowed/],
    [{ pf: 'eth9', prefix: 'a/b' }, /"prefix": "a\/b" is not allowed/],
    [{ pf: 'eth9', prefix: 'abcdefghijklm' }, /"prefix"/],
    [{ pf: 'eth9', gateway: '10.9.0.1' }, /"gateway": "10.9.0.1" is not allowed: it can only be none/],
    [{ pf: 'eth9', phys_network: 'x' }, /"phys_network": "x" is not allowed: name the PF/],
    [{ pf: 'eth9', vlann: '7' }, /did you mean "vlan"\?/],
    [{ pf: 'eth9', nonsense: '7' }, /there is no such option/],
  ])('%j is refused', (options, message) => {
    expect(() => wishOfNetwork(withOptions(options))).toThrow(message);
  });

  test('Docker’s own options pass', () => {
    const options = {
      pf: 'eth9',
      'com.docker.network.bridge.name': 'x',
      'com.docker.network.advertise_addr_nmsgs': '3',
    };
    expect(wishOfNetwork(withOptions(options)).wish.device).toMatchObject(pool);
  });
});

describe('what is no call', () => {
  test.each(['', ' \n'])('an empty body %j: dockerd repeats a call without it', (body) => {
    expect(() => parseBody(schemas.Endpoint, body)).toThrow(/dockerd sent no body/);
  });
  test.each<[string, RegExp]>([
    ['{', /Cannot parse what dockerd sent/],
    ['null', /Cannot parse what dockerd sent: it: /],
    ['[]', /Cannot parse what dockerd sent/],
    ['{"NetworkID":"a"}', /"EndpointID"/],
    ['{"NetworkID":"../../etc/x","EndpointID":"b"}', /"NetworkID"/],
    ['{"NetworkID":"a","EndpointID":"b/c"}', /"EndpointID"/],
    ['{"NetworkID":"","EndpointID":"b"}', /"NetworkID"/],
  ])('%s', (body, message) => {
    expect(() => parseBody(schemas.Endpoint, body)).toThrow(message);
  });
  test('a sandbox that is no absolute path', () => {
    const body = JSON.stringify({ ...joined, SandboxKey: 'netns/x' });
    expect(() => parseBody(schemas.Join, body)).toThrow(/"SandboxKey"/);
  });
  test('null is absent', () => {
    const body = JSON.stringify({ ...named, Options: null, Interface: null });
    expect(endpointFrom(JSON.parse(body) as object)).toMatchObject(named);
  });
});

describe('a network of Mellanox’s plugin', () => {
  const config = { Version: 0, Netdevice: 'ens2f0', Mode: 'sriov', Subnet: '', Gateway: '10.9.0.1/24', vlan: 100, Privileged: true }; // prettier-ignore
  const read = (changes: object) => {
    using tree = temporaryTree({ [networkId]: { 'config.json': JSON.stringify({ ...config, ...changes }) } });
    return readMellanoxNetwork(networkId, ['/nowhere', tree.root]);
  };

  test('is understood', () => {
    const network = read({});
    expect(network).toMatchObject({ id: networkId, internal: false, gateway: '10.9.0.1' });
    expect(network && wishOfNetwork(network).wish).toMatchObject({
      device: { kind: 'pool', pool: { pfs: [{ pf: 'ens2f0' }] } },
      settings: { vlan: vlan(100), spoofchk: false, trust: true },
    });
  });
  test('without a VLAN has none', () => {
    const network = read({ vlan: 0 });
    expect(network && wishOfNetwork(network).wish.settings.vlan).toBeUndefined();
  });
  test('of its mode passthrough is the PF itself', () => {
    const network = read({ Mode: 'passthrough', vlan: 0, Privileged: false });
    expect(network && wishOfNetwork(network).wish.device).toEqual({ kind: 'pf', pf: 'ens2f0' });
  });
  test('that is damaged, or not there, is none', () => {
    expect(read({ Netdevice: 7 })).toBeUndefined();
    expect(readMellanoxNetwork(networkId, ['/nowhere'])).toBeUndefined();
  });
});
