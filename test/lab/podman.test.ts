import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { difference, pfPci, type TestNode, vfPci } from '../support/node.ts';
import { fiveMinutes } from '../support/five-minutes.ts';
import { PodmanNode } from '../support/podman.ts';

let podman: PodmanNode;
let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  podman = await PodmanNode.start('trixie', 3);
  node = podman.node;
  await podman.network('fast', '--subnet 10.9.0.0/24 --opt vlan=100');
  await podman.network('slow', '--subnet 10.8.0.0/24 --opt max_tx_rate=100');
  pristine = await node.state();
});
// A test that failed leaves nothing to the next one.
afterEach(() => node.sh('podman rm -f -t 0 -a'));
afterAll(() => podman[Symbol.asyncDispose]());

const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');

test('create stores the network without name service, and refuses what makes no sense or cannot work here', async () => {
  const stored = JSON.parse(await node.sh('cat /etc/containers/networks/fast.json')) as object;
  expect(stored).toMatchObject({ dns_enabled: false, options: { pf: pfPci(0), vlan: '100' } });
  const refused = async (options: string) => {
    const { code, stderr } = await node.machine.run(`podman network create --driver sriov ${options} bad`);
    expect(code).not.toBe(0);
    return stderr;
  };
  expect(await refused('--opt vlan=5000 --opt pf=x')).toContain('"vlan": "5000" is not allowed');
  expect(await refused('--opt pf=nosuch')).toContain('Cannot find PF "nosuch"');
  expect(await refused('')).toContain('names no device');
  expect(await refused(`--opt pf=${pfPci(0)} --opt mtu=65535`)).toMatch(/mtu/i);
  expect(await refused(`--opt pf=${pfPci(0)} --opt driver=nosuch`)).toContain('No VF to take');
  expect(await refused(`--ipam-driver dhcp --opt pf=${pfPci(0)}`)).toContain('--ipam-driver dhcp');
});

test('two containers reach each other over a VLAN, one with a MAC and an address of its own; stop, start, rm', async () => {
  expect(await podman.run('a', '--network fast --mac-address 02:00:00:00:20:07 --ip 10.9.0.7')).toBe('');
  await podman.run('b', '--network fast:interface_name=fast0');
  expect(await podman.inNetwork('a', 'fast')).toMatchObject({
    IPAddress: '10.9.0.7',
    MacAddress: '02:00:00:00:20:07',
    Gateway: '10.9.0.1',
  });
  const a = await podman.netns('a');
  const b = await podman.netns('b');
  expect(await node.link('eth0', a)).toMatchObject({ address: '02:00:00:00:20:07', parentdev: vfPci(0, 0) });
  expect(await node.vf(0, 0)).toMatchObject({ address: '02:00:00:00:20:07', vlan_list: [{ vlan: 100 }] });
  expect(await node.link('fast0', b)).toMatchObject({ parentdev: vfPci(0, 1) });
  expect(await node.sh(`ip -n ${b} route`)).toMatch(/default via 10\.9\.0\.1 dev fast0 +metric 100/);
  expect(await node.ping(b, '10.9.0.7')).toBe(3);
  expect(await node.sh('/opt/cni/bin/sriov list')).toMatch(/attached .* container a \(fast\)/);
  expect(await node.sh('/opt/cni/bin/sriov inspect a')).toContain('02:00:00:00:20:07');
  await node.sh('podman stop -t 0 a');
  expect((await node.vf(0, 0)).vlan_list[0]?.vlan).toBeUndefined();
  await node.sh('podman start a');
  expect(await node.ping(b, (await podman.inNetwork('a', 'fast')).IPAddress)).toBe(3);
  await podman.remove('a', 'b');
  await expectPristine();
});

test('podman network reload: the container keeps address and MAC, and has one VF', async () => {
  await podman.run('a', '--network fast');
  const before = await podman.inNetwork('a', 'fast');
  await node.sh('podman network reload a');
  const { IPAddress, MacAddress } = await podman.inNetwork('a', 'fast');
  expect({ IPAddress, MacAddress }).toEqual({ IPAddress: before.IPAddress, MacAddress: before.MacAddress });
  const a = await podman.netns('a');
  expect(await node.link('eth0', a)).toMatchObject({ address: before.MacAddress });
  expect((await node.sh('/opt/cni/bin/sriov list')).match(/ attached /g)).toHaveLength(1);
  await podman.remove('a');
  await expectPristine();
});

test('the five minutes of docs/podman.md', async () => {
  const commands = fiveMinutes('docs/podman.md', {
    'ens1f0 4': 'ens1f0 3',
    ens1f0: (await node.sh(`ls /sys/bus/pci/devices/${pfPci(0)}/net`)).trim(),
    // Names and addresses that other cases do not have.
    ' fast': ' five',
    '10.9.0.': '10.19.0.',
    'IMAGE ': 'localhost/pause:1 /bin/busybox ',
  });
  expect(commands).toHaveLength(5);
  for (const command of commands) await node.sh(command);
  expect(await node.sh('/opt/cni/bin/sriov list')).toMatch(/attached .*container a \(five\)/);
  await podman.remove('a');
  await node.sh('podman network rm five');
  await expectPristine();
});

test('deploy/examples/podman.sh', async () => {
  const script = readFileSync('deploy/examples/podman.sh', 'utf8');
  await node.machine.write('/run/podman.sh', script);
  const output = await node.sh(`PF=${pfPci(0)} IMAGE=localhost/pause:1 sh /run/podman.sh`);
  expect(output).toMatch(/attached .*container db \(example\)/);
  expect(output).toMatch(/inet 10\.11\.0\.\d+\/24/);
  expect(await node.ping(await podman.netns('db'), '10.11.0.80')).toBe(3);
  await podman.remove('web', 'db');
  await node.sh('podman network rm example');
  await expectPristine();
});

test('two families, --internal and --route', async () => {
  await podman.network('both', '--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64');
  await podman.network('inside', '--internal --subnet 10.6.0.0/24 --route 10.55.0.0/16,10.6.0.9');
  // Without names the order is a hash's, of the networks' ids.
  await podman.run('a', '--network both:interface_name=eth0 --network inside:interface_name=eth1');
  const { IPAddress, GlobalIPv6Address } = await podman.inNetwork('a', 'both');
  expect([IPAddress, GlobalIPv6Address]).toEqual(['10.7.0.2', 'fd00:7::2']);
  const a = await podman.netns('a');
  expect(await node.sh(`ip -n ${a} -4 route | grep -c default; ip -n ${a} -4 route`)).toMatch(
    /^1\n[^]*10\.55\.0\.0\/16 via 10\.6\.0\.9/,
  );
  // No router may undo --internal.
  const accepts =
    'sysctl -n net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth0.autoconf net.ipv6.conf.eth1.accept_ra';
  expect(await node.sh(`ip netns exec ${a} ${accepts}`)).toMatch(/^(1\n0\n0)$/);
  expect(await node.sh(`ip -n ${a} -6 route`)).toMatch(/default via fd00:7::1 .*metric 100/);
  await podman.remove('a');
  await node.sh('podman network rm both inside');
  await expectPristine();
});

test('several networks: one disconnected and connected again, with options of the container; the rest stays', async () => {
  await podman.run('a', '--network fast --network slow:max_tx_rate=50');
  const a = await podman.netns('a');
  const rates = async () => {
    const vfs = await Promise.all([0, 1, 2].map((index) => node.vf(0, index)));
    return vfs.map(({ rate }) => rate.max_tx).filter((mbps) => mbps > 0);
  };
  expect(await rates()).toEqual([50]);
  await node.sh('podman network disconnect slow a');
  expect(await rates()).toEqual([]);
  expect((await node.links(a)).filter(({ parentdev }) => parentdev)).toHaveLength(1);
  await node.sh('podman network connect slow a');
  expect((await node.links(a)).filter(({ parentdev }) => parentdev)).toHaveLength(2);
  expect(await rates()).toEqual([100]);
  await podman.remove('a');
  await expectPristine();
});

test('all VFs in use: a sentence on one line; the first of two networks is given back, and so is a container that cannot start', async () => {
  await podman.run('a', '--network fast');
  await podman.run('b', '--network fast');
  const { code, stderr } = await podman.tryRun('c', '--network fast --network slow');
  expect(code).not.toBe(0);
  const line = stderr.split('\n').find((text) => text.includes('is free'));
  expect(line).toMatch(/No VF of 0000:01:00\.0 is free: all 3 are in use .*container [abc]/);
  await podman.remove('c');
  expect((await node.sh('/opt/cni/bin/sriov list')).match(/ free /g)).toHaveLength(1);
  expect((await podman.tryRun('d', '--network fast --mac-address 01:00:5e:00:00:01')).code).not.toBe(0);
  await podman.remove('a', 'b', 'd');
  await expectPristine();
});

test('the process killed: conmon gives back; conmon and the process killed: podman rm does', async () => {
  await podman.run('a', '--network fast');
  await podman.run('b', '--network fast');
  await node.sh(`kill -9 $(podman inspect -f '{{.State.ConmonPid}}' b)
    kill -9 $(podman inspect -f '{{.State.Pid}}' a b)`);
  await expect
    .poll(async () => (await node.sh('/opt/cni/bin/sriov list')).match(/ free /g)?.length, {
      timeout: 60_000,
    })
    .toBe(2);
  // Without conmon podman cannot tell how the container ended, and takes a second time to remove it.
  await node.machine.run('podman rm -f -t 0 b');
  await podman.remove('a', 'b');
  await expectPristine();
});

test('the namespace pulled away: no teardown comes, and the next container that needs the VF recovers it', async () => {
  await podman.run('a', '--network fast');
  const pid = await node.sh("podman inspect -f '{{.State.Pid}}' a");
  await node.sh(`umount /run/netns/${await podman.netns('a')}; rm -f /run/netns/netns-*; kill -9 ${pid}`);
  await node.machine.run('podman rm -f -t 0 a');
  expect(await node.sh('/opt/cni/bin/sriov list')).toMatch(/ stale .*container a/);
  for (const name of ['b', 'c', 'd']) await podman.run(name, '--network slow');
  await podman.remove('b', 'c', 'd');
  await expectPristine();
});

test('a reboot: no teardown comes, and the same container starts again with another VF', async () => {
  await podman.run('a', '--network fast');
  // All processes and namespaces gone, run folders empty, VFs made anew, another boot id.
  await node.sh(`
    kill -9 $(podman inspect -f '{{.State.ConmonPid}} {{.State.Pid}}' a)
    sleep 1
    for path in /run/netns/netns-*; do umount $path; rm -f $path; done
    rm -rf /run/libpod /run/containers /run/crun /dev/shm/libpod*
    until ls /sys/bus/pci/devices/${vfPci(0, 0)}/net >/dev/null; do sleep 0.1; done
    echo 0 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
    echo 3 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
    cat /proc/sys/kernel/random/uuid > /run/boot-id
    mount --bind /run/boot-id /proc/sys/kernel/random/boot_id`);
  const booted = (await node.state()) as { rest: string };
  await node.sh('podman start a');
  const list = await node.sh('/opt/cni/bin/sriov list');
  expect(list.match(/container a/g)).toHaveLength(1);
  expect(list).not.toContain('stale');
  await podman.remove('a');
  const after = (await node.state()) as { rest: string };
  expect(after.rest.split('\n').filter((line) => line.includes('/claims/'))).toEqual([]);
  expect(difference({ ...booted, rest: '' }, { ...after, rest: '' })).toBe('');
});

test('rootless is refused with a sentence', async () => {
  const { code, stdout } = await node.machine.run('unshare -Ur /usr/libexec/netavark/sriov create', {
    stdin: '{}',
  });
  expect(code).toBe(1);
  expect((JSON.parse(stdout) as { error: string }).error).toContain('run podman as root');
});
