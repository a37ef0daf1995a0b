import { afterAll, beforeAll, expect, test } from 'vitest';
import { dhcpServer, startDhcpDaemon, startDhcpServer } from '../support/dhcp.ts';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

let node: TestNode;
let pristine: unknown;

beforeAll(async () => {
  node = await TestNode.start({ pfs: 2, vfs: 2, disks: ['runtimes'] });
  await startDhcpServer(node, pfPci(1));
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());
const leases = () => node.sh('cat /run/leases');
const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');

test('dhcp: a lease of a real server, released by DEL', async () => {
  const config = { deviceID: vfPci(0, 0), mac: '02:00:00:00:40:01', ipam: { type: 'dhcp' } };
  await node.pods('a');
  const result = await node.add('a', config);
  const [ip] = result.ips ?? [];
  expect(ip).toMatchObject({
    address: expect.stringMatching(/^10\.6\.0\.[56]\d\/24$/) as string,
    gateway: dhcpServer,
  });
  const address = ip?.address.replace(/\/.*/, '') ?? '';
  expect(await node.addresses('net1', 'a')).toContainEqual(expect.objectContaining({ local: address }));
  expect(await leases()).toContain(`02:00:00:00:40:01 ${address} `);
  expect(await node.ping('a', dhcpServer)).toBe(3);
  await node.del('a', config);
  expect(await leases()).toBe('');
  expect(await node.sh('cat /run/dnsmasq.log')).toContain(`DHCPRELEASE(lan0) ${address} 02:00:00:00:40:01`);
  await expectPristine();
});

test('dhcp: a dead pod, and a second DEL', async () => {
  const config = { deviceID: vfPci(0, 0), ipam: { type: 'dhcp' } };
  await node.pods('b');
  await node.add('b', config);
  await node.sh('ip netns del b');
  await node.del('b', config, { netns: '' });
  await node.del('b', config, { netns: '' });
  await expectPristine();
});

test('dhcp: without its daemon ADD fails with the words of the plugin; what it may have given is freed when the daemon is back', async () => {
  await node.sh('pkill -x dhcp; while pgrep -x dhcp; do sleep 0.05; done');
  await node.pods('c');
  const config = { deviceID: vfPci(0, 1), vlan: 200, ipam: { type: 'dhcp' } };
  const before = await node.vf(0, 1);
  const { answer } = await node.cni('ADD', 'c', config);
  expect(answer?.msg).toMatch(/^IPAM plugin "dhcp" failed at ADD: error dialing DHCP daemon[^;]*$/);
  expect(await node.vf(0, 1)).toEqual(before);
  expect(await node.links('c')).toHaveLength(1);
  await node.del('c', config); // the runtime's, which does not repeat it for ever
  expect(difference(pristine, await node.state())).toMatch(maybe);
  await node.sh('rm -f /run/cni/dhcp.sock');
  await startDhcpDaemon(node);
  await node.sh('sriov gc >&2');
  await expectPristine();
});

/** Nobody knows whether a plugin that refused to give an address, and then to free it, has taken one: all but the lease is as before. */
const maybe = /^(.*driver_override.*\n)*\+\/var\/lib\/cni\/sriov\/leases\/0000:01:10\.2-\w+-maybe\.json"$/;

test('an IPAM plugin that refuses every call, as one does that does not know the CNI version: only a lease stays', async () => {
  await node.pods('d');
  const config = { cniVersion: '1.1.0', deviceID: vfPci(0, 1), vlan: 200, ipam: hostLocal('10.7.0.0/24') };
  const { answer } = await node.cni('ADD', 'd', config);
  expect(answer?.msg).toBe('IPAM plugin "host-local" failed at ADD: incompatible CNI versions');
  await node.del('d', config);
  expect(difference(pristine, await node.state())).toMatch(maybe);
  const name = await node.sh('cd /var/lib/cni/sriov/leases; ls | sed s/.json//');
  expect(await node.sh('sriov list')).toContain(name);
  await node.sh(`sriov release ${name} --force`);
  await expectPristine();
});

test('a pod that is tried again and again without its IPAM plugin: not more than 256 leases that may be none', async () => {
  const folder = '/var/lib/cni/sriov/leases';
  await node.sh(
    `mkdir -p ${folder}; for i in {1..256}; do echo '{}' > ${folder}/0000:01:10.0-$i-maybe.json; done`,
  );
  const config = { cniVersion: '1.1.0', deviceID: vfPci(0, 1), ipam: hostLocal('10.7.0.0/24') };
  const { answer, stderr } = await node.cni('ADD', 'd', config);
  expect(answer?.msg).toContain('incompatible CNI versions');
  expect(stderr).toContain('not kept as a lease');
  expect(await node.sh(`ls ${folder} | wc -l`)).toBe('256');
  await node.sh(`rm -r ${folder}`);
  await expectPristine();
});

/** An IPAM plugin of a name that is known not to need the interface: it writes down where that is, when it starts and when it may go on. */
const observing = `#!/bin/bash
if [ "$CNI_COMMAND" = ADD ]; then
  cat > /dev/null
  echo '{"cniVersion":"1.0.0","ips":[{"address":"10.8.0.2/24"}]}'
  exit
fi
echo started >> /run/observed
[ "$(cat)" ] || exit 1
ls /sys/bus/pci/devices/${vfPci(0, 0)}/net > /dev/null && echo "interface on the host" >> /run/observed
echo "goes on" >> /run/observed
`;
const observed = () => node.sh('cat /run/observed');

test('DEL starts a plugin that needs no interface early, and lets it go on when the interface has left the pod', async () => {
  await node.machine.write('/run/early/static', observing, 0o755);
  await node.pods('e');
  const config = { deviceID: vfPci(0, 0), ipam: { type: 'static' } };
  const env = { CNI_PATH: '/run/early' };
  await node.add('e', config, { env });
  await node.del('e', config, { env });
  expect(await observed()).toBe('started\ninterface on the host\ngoes on');
  await expectPristine();
});

test('as long as the VF is not given back, the address is not freed', async () => {
  await node.sh('modprobe vfio-pci; rm -f /run/observed');
  const config = { deviceID: vfPci(0, 0), dpdk: true, ipam: { type: 'static' } };
  const env = { CNI_PATH: '/run/early' };
  await node.add('e', config, { env });
  const group = await node.sh(`basename $(readlink /sys/bus/pci/devices/${vfPci(0, 0)}/iommu_group)`);
  const holder = await node.hold(`/dev/vfio/${group}`);
  const { answer } = await node.cni('DEL', 'e', config, { env });
  expect(answer?.msg).toContain('is still in use');
  expect(await observed()).toBe('started');
  await node.kill(holder);
  await node.sh('rm /run/observed');
  await node.del('e', config, { env });
  expect(await observed()).toBe('started\ngoes on');
  await expectPristine();
});
