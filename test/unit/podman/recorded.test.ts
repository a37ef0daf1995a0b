import { describe, expect, test } from 'vitest';
import { Failure } from '../../../src/attach/failure.ts';
import { givenAddresses } from '../../../src/podman/given-addresses.ts';
import { parseCall, parseNetwork } from '../../../src/podman/netavark.ts';
import { wishOfCall, wishOfNetwork } from '../../../src/podman/network-wish.ts';
import { formatError, runPlugin } from '../../../src/podman/plugin.ts';
import { formatIp } from '../../../src/vf/ip.ts';
import { calls, created, type RecordedCall } from '../../support/recorded-podman.ts';

/** What becomes of a call: the wish, and addresses and routes as `ip` writes them. */
function understand(recorded: object) {
  const call = parseCall(JSON.stringify(recorded));
  const { wish, defaultMetric } = wishOfCall(call);
  const { addresses, routes } = givenAddresses(
    call.network,
    call.network_options.static_ips ?? [],
    defaultMetric,
  );
  return {
    wish,
    addresses: addresses.map((a) => `${formatIp(a.bytes)}/${a.prefixLength}`),
    routes: routes.map((r) => `${formatIp(r.dst)}/${r.prefixLength} via ${r.gateway && formatIp(r.gateway)} metric ${r.priority}`), // prettier-ignore
  };
}

/** A recorded call with another network, container part or both. */
function changed(recorded: RecordedCall, network: object, container: object = {}): object {
  return {
    ...recorded,
    network: { ...recorded.network, ...network },
    network_options: { ...recorded.network_options, ...container },
  };
}

const pool = (pf: string) => ({ kind: 'pool', pool: { pfs: [{ pf }] } });

describe('setup as recorded', () => {
  test('run', () => {
    expect(understand(calls.run)).toMatchObject({
      wish: {
        network: 'n1',
        device: pool('eth9'),
        settings: { vlan: { id: 100, qos: 0, proto: '802.1q' }, mac: undefined },
        podIfname: 'eth0',
        containerName: 'c1',
        routersGive: 'routes',
      },
      addresses: ['10.9.0.2/24'],
      routes: ['0.0.0.0/0 via 10.9.0.1 metric 100'],
    });
  });

  test('run with --mac-address, --ip and an interface name', () => {
    expect(understand(calls['run with --mac-address, --ip, an interface name and a port'])).toMatchObject({
      wish: { settings: { mac: '02:11:22:33:44:55' }, podIfname: 'fast0' },
      addresses: ['10.9.0.77/24'],
    });
  });

  test("a container's option comes before its network's", () => {
    expect(understand(calls['run with an option of its own']).wish.settings.vlan?.id).toBe(7);
  });

  test('--interface-name, --internal and --route: no default route, but the own one', () => {
    expect(understand(calls['a network with every flag'])).toMatchObject({
      wish: { device: pool('eth9'), mtu: 9000, podIfname: 'eth1', routersGive: 'nothing' },
      addresses: ['10.8.0.129/24'],
      routes: ['10.99.0.0/16 via 10.8.0.1 metric 100'],
    });
  });

  test.each(['a network without a subnet', '--ipam-driver none'] as const)('%s: no addresses', (name) => {
    expect(understand(calls[name])).toMatchObject({
      addresses: [],
      routes: [],
      wish: { routersGive: undefined },
    });
  });

  test('--ipam-driver dhcp is refused', () => {
    expect(() => understand(calls['--ipam-driver dhcp'])).toThrow(/--ipam-driver dhcp.*host-local/);
  });
});

test('two families: a default route for each', () => {
  const subnets = [
    { subnet: '10.9.0.0/24', gateway: '10.9.0.1' },
    { subnet: 'fd00:9::/64', gateway: 'fd00:9::1' },
  ];
  const both = changed(calls.run, { subnets }, { static_ips: ['10.9.0.2', 'fd00:9::2'] });
  expect(understand(both)).toMatchObject({
    addresses: ['10.9.0.2/24', 'fd00:9::2/64'],
    routes: ['0.0.0.0/0 via 10.9.0.1 metric 100', '::/0 via fd00:9::1 metric 100'],
  });
});

test.each<[string, object, string[]]>([
  ['metric', { metric: '7' }, ['0.0.0.0/0 via 10.9.0.1 metric 7']],
  ['no_default_route', { no_default_route: 'true' }, []],
  ['no_default_route=false', { no_default_route: 'false' }, ['0.0.0.0/0 via 10.9.0.1 metric 100']],
  ["Docker's gateway=none", { gateway: 'none' }, []],
])('option %s', (_, options, routes) => {
  expect(understand(changed(calls.run, { options: { pf: 'eth9', ...options } })).routes).toEqual(routes);
});

test.each<[string, object, object, RegExp]>([
  ['no device', { options: {} }, {}, /names no device: --opt pf=ens1f0/],
  ['a wrong option', { options: { pf: 'e', vlan: '5000' } }, {}, /"vlan": "5000".*0 to 4094/],
  ["a container's wrong option", {}, { options: { vlam: '7' } }, /"vlam": "7".*did you mean "vlan"/],
  ['metric', { options: { pf: 'e', metric: '-1' } }, {}, /"metric": "-1"/],
  [
    'no_default_route',
    { options: { pf: 'e', no_default_route: 'maybe' } },
    {},
    /"no_default_route": "maybe"/,
  ],
  ['gateway', { options: { pf: 'e', gateway: '10.9.0.9' } }, {}, /--gateway sets the address/],
  ['a multicast MAC', {}, { static_mac: '01:00:5e:00:00:01' }, /"01:00:5e:00:00:01" is not allowed/],
  ['an interface name', {}, { interface_name: 'a/b' }, /Interface name "a\/b"/],
  ['an address of no subnet', {}, { static_ips: ['10.10.0.2'] }, /10\.10\.0\.2 is in none of the subnets/],
  ['no address', {}, { static_ips: ['10.9.0'] }, /"10\.9\.0" is no IP address/],
  ['a subnet', { subnets: [{ subnet: '10.9.0.0' }] }, {}, /subnet "10\.9\.0\.0" is no network/],
  ['a route without gateway', { routes: [{ destination: '10.1.0.0/16', gateway: null }] }, {}, /10\.1\.0\.0\/16 has no gateway/], // prettier-ignore
  ['a route between families', { routes: [{ destination: '10.1.0.0/16', gateway: 'fd00::1' }] }, {}, /cannot go through fd00::1/], // prettier-ignore
])('%s is refused', (_, network, container, message) => {
  expect(() => understand(changed(calls.run, network, container))).toThrow(message);
});

test.each<[string, string, RegExp]>([
  ['nothing', ' ', /stdin is empty/],
  ['no JSON', '{', /Cannot parse what netavark sent/],
  ['another type', '[]', /Cannot parse what netavark sent/],
  ['a name that is none', JSON.stringify({ ...calls.run, container_name: '\x1b[31m' }), /container_name/],
  ['a path as an id', JSON.stringify({ ...calls.run, container_id: '../x' }), /container_id/],
  ['a number as an option', JSON.stringify(changed(calls.run, { options: { vlan: 5 } })), /network\.options\.vlan/], // prettier-ignore
])('stdin with %s is refused', (_, stdin, message) => {
  expect(() => parseCall(stdin)).toThrow(message);
});

describe('create as recorded', () => {
  test.each(['with a subnet', 'with every flag', 'without a subnet'] as const)('%s is understood', (name) => {
    expect(wishOfNetwork(parseNetwork(JSON.stringify(created[name]))).wish.device).toMatchObject(
      pool('eth9'),
    );
  });

  test.each([
    ['with --ipam-driver dhcp', /dhcp/],
    ['without options', /names no device/],
  ] as const)('%s is refused', (name, message) => {
    expect(() => wishOfNetwork(parseNetwork(JSON.stringify(created[name])))).toThrow(message);
  });

  test('what podman adds in later versions is kept', () => {
    const network = { ...created['with every flag'], brandNew: { a: [1] } };
    expect(parseNetwork(JSON.stringify(network))).toEqual(network);
  });
});

test('info', async () => {
  const never = () => {
    throw new Error('stdin is not read');
  };
  expect(JSON.parse(await runPlugin(['info'], {}, never, '1.2.3'))).toEqual({
    version: '1.2.3',
    api_version: '1.0.0',
  });
});

test("an error is netavark's: one line, without what a terminal obeys", () => {
  const busy = new Failure('busy', 'No VF of ens1f0 is free', 'VF 0: pod \x1b[31m\nVF 1: \u202eused');
  expect(JSON.parse(formatError(busy))).toEqual({
    error: 'No VF of ens1f0 is free (VF 0: pod \\u001b[31m; VF 1: \\u202eused)',
  });
});
