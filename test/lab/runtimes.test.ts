import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePauseImage, tappedCalls, tapPlugins } from '../support/containerd.ts';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';
import * as recorded from '../support/recorded.ts';

const config = `
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/tapped"]
`;

/** docs/runtimes.md has it, too. */
const network = {
  cniVersion: '1.0.0',
  name: 'fast',
  plugins: [{ type: 'sriov', pf: pfPci(0), vlan: 100, ipam: hostLocal('10.2.0.0/24') }],
};

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 3, disks: ['runtimes'] });
  await makePauseImage(node);
  await tapPlugins(node, '/usr/lib/cni');
  await node.machine.write('/etc/containers/containers.conf', config);
  await node.machine.write('/etc/cni/net.d/10-fast.conflist', JSON.stringify(network));
  await node.sh(`
    mkdir -p /var/lib/containers; mount -t tmpfs tmpfs /var/lib/containers; touch /etc/resolv.conf
    podman load -q -i /run/pause.tar`);
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());

test('podman with the CNI backend: a container with a MAC and an address, and one without, reach each other', async () => {
  await node.sh(`podman run -d --name a --network fast --mac-address 02:00:00:00:20:07 --ip 10.2.0.7 localhost/pause:1
    podman run -d --name b --network fast localhost/pause:1`);
  const inspected = JSON.parse(await node.sh('podman inspect a b')) as {
    NetworkSettings: { SandboxKey: string; Networks: { fast: { IPAddress: string; MacAddress: string } } };
  }[];
  const [a, b] = inspected.map(({ NetworkSettings: { SandboxKey, Networks } }) => ({
    netns: SandboxKey.replace(/^.*\//, ''),
    ip: Networks.fast.IPAddress,
    mac: Networks.fast.MacAddress,
  })) as [{ netns: string; ip: string; mac: string }, { netns: string; ip: string; mac: string }];
  expect(a).toMatchObject({ ip: '10.2.0.7', mac: '02:00:00:00:20:07' });
  expect(await node.link('eth0', a.netns)).toMatchObject({
    address: '02:00:00:00:20:07',
    parentdev: vfPci(0, 0),
  });
  expect(await node.vf(0, 0)).toMatchObject({ address: '02:00:00:00:20:07', vlan_list: [{ vlan: 100 }] });
  expect(await node.ping(b.netns, a.ip)).toBe(3);
  await node.sh('podman rm -f -t 0 a b');
  const calls = await tappedCalls(node);
  expect(calls.map(({ command }) => command).filter((command) => command !== 'VERSION')).toEqual([
    'ADD',
    'ADD',
    'DEL',
    'DEL',
  ]);
  expect(calls.find(({ command }) => command === 'ADD')?.args.split(';')).toEqual(
    expect.arrayContaining(['K8S_POD_NAME=a', 'MAC=02:00:00:00:20:07', 'IP=10.2.0.7']),
  );
  expect(difference(pristine, await node.state())).toBe('');
});

test('a container that cannot start leaves nothing behind', async () => {
  const { code, stderr } = await node.machine.run(
    'podman run -d --name c --network fast --mac-address 01:00:5e:00:00:01 localhost/pause:1',
  );
  expect(code).not.toBe(0);
  expect(stderr).toContain('must be a unicast MAC address');
  await node.sh('podman rm -f -t 0 c');
  expect(difference(pristine, await node.state())).toBe('');
});

describe('calls as recorded', () => {
  const attachment = {
    containerId: recorded.containerId,
    args: recorded.multusArgs,
    env: { CNI_PATH: recorded.multusPath },
  };
  const config = recorded.multusConfig(vfPci(0, 1));

  test('Multus with a device plugin: ADD, and a DEL that has lost its keys, twice', async () => {
    await node.pods('m');
    const result = await node.add('m', config, attachment);
    expect(result.interfaces).toMatchObject([{ name: 'net1', mac: recorded.mac, pciID: vfPci(0, 1) }]);
    expect(result.ips).toMatchObject([{ address: '10.250.10.55/24' }]); // IP of CNI_ARGS
    expect(await node.link('net1', 'm')).toMatchObject({ address: recorded.mac, parentdev: vfPci(0, 1) });
    expect((await node.vf(0, 1)).vlan_list).toMatchObject([{ vlan: 100 }]);
    expect(JSON.parse(await node.sh(`cat ${recorded.deviceInfoFile}`))).toMatchObject({
      type: 'pci',
      pci: { 'pci-address': vfPci(0, 1) },
    });
    await node.del('m', recorded.strippedDel(result), attachment);
    expect(difference(pristine, await node.state())).toBe('');
    await node.del(
      'm',
      { ...recorded.strippedDel(undefined), prevResult: undefined },
      { ...attachment, netns: '' },
    );
  });

  test.each(Object.entries(recorded.gcConfigs))('GC of %s', async (who, gc) => {
    await node.pods('g');
    await node.add('g', { ...config, cniVersion: '1.0.0' }, attachment);
    const { code, answer } = await node.cni('GC', 'g', gc, attachment);
    expect({ code, answer }).toEqual({ code: 0, answer: undefined });
    const isKept = who !== 'CRI-O with no pods';
    expect((await node.links('g')).some(({ ifname }) => ifname === 'net1')).toBe(isKept);
    await node.del('g', config, attachment);
    await node.sh('ip netns del g');
    expect(difference(pristine, await node.state())).toBe('');
  });

  test("libcni's VERSION probe", async () => {
    const { code, stdout } = await node.machine.run('/opt/cni/bin/sriov', {
      env: recorded.versionProbe,
      stdin: '{"cniVersion":"1.0.0"}',
    });
    expect({ code, answer: JSON.parse(stdout) as unknown }).toMatchObject({
      code: 0,
      answer: { cniVersion: '1.0.0', supportedVersions: expect.arrayContaining(['1.1.0']) as string[] },
    });
  });
});

test('bandwidth refuses a VF, and DEL restores everything; "max_tx_rate" and the capability are the way out', async () => {
  await node.pods('w');
  const config = { deviceID: vfPci(0, 0) };
  const prevResult = await node.add('w', config);
  const bandwidth = {
    cniVersion: '1.0.0',
    name: 'net',
    type: 'bandwidth',
    ingressRate: 1_000_000,
    ingressBurst: 1_000_000,
    prevResult,
  };
  const { code, stdout } = await node.machine.run('/opt/cni/bin/bandwidth', {
    stdin: JSON.stringify(bandwidth),
    env: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'w',
      CNI_NETNS: '/run/netns/w',
      CNI_IFNAME: 'net1',
      CNI_PATH: '/opt/cni/bin',
    },
  });
  expect(code).toBe(1);
  expect(stdout).toContain('no veth peer');
  await node.del('w', config);
  const limited = {
    ...config,
    capabilities: { bandwidth: true },
    runtimeConfig: { bandwidth: { egressRate: 200_000_000 } },
  };
  await node.add('w', limited);
  expect((await node.vf(0, 0)).rate.max_tx).toBe(200);
  await node.del('w', limited);
  await node.sh('ip netns del w');
  expect(difference(pristine, await node.state())).toBe('');
});
