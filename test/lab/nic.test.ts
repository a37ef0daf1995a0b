import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { difference, hostLocal, TestNode, vfPci } from '../support/node.ts';

/** An igb, an SR-IOV card of virtio's with VFs at functions 1 to 3, and two NICs without SR-IOV; all wired to each other. */
const virtioPf = '0000:02:00.0';
const virtioVf = (index: number) => `0000:02:00.${index + 1}`;
const e1000e = '0000:03:00.0';
const virtio = '0000:04:00.0';

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 2, virtioPfs: 1, nics: ['e1000e', 'virtio-net-pci'] });
  await node.sh(`echo 2 > /sys/bus/pci/devices/${virtioPf}/sriov_numvfs`);
  await node.pods('first');
  await node.add('first', { deviceID: vfPci(0, 0) }); // makes the folders
  await node.del('first', {});
  await node.sh('ip netns del first');
});
afterAll(() => node[Symbol.asyncDispose]());

beforeEach(async () => {
  await node.pods('a', 'b');
  pristine = await node.state();
});
afterEach(async () => {
  await node.machine.run('ip netns del a; ip netns del b; ip netns del c; /opt/cni/bin/sriov gc');
});

const restored = async () => expect(difference(pristine, await node.state())).toBe('');
const netdevOf = (pci: string) => node.sh(`ls -d /sys/bus/pci/devices/${pci}/{,virtio*/}net/* 2>/dev/null | sed 's,.*/,,' || true`); // prettier-ignore
const claims = () => node.sh('ls /var/lib/cni/sriov/claims');
const ipam = hostLocal('10.9.0.0/24');

describe.each([
  ['e1000e', e1000e],
  ['virtio-net, below virtioN/', virtio],
  ['a VF of an SR-IOV virtio card', virtioVf(0)],
])('%s', (kind, deviceID) => {
  test('goes into a pod with its own MAC and MTU, and comes back as it was', async () => {
    const ifname = await netdevOf(deviceID);
    const mac = '02:00:00:00:4e:07';
    await node.sh(`ip link property add dev ${ifname} altname an-altname
      ip link set ${ifname} alias 'port 7' mtu 1450 promisc on`);
    pristine = await node.state();
    const result = await node.add('a', { deviceID, mac, mtu: 1400, ipam });
    expect(result.interfaces).toEqual([
      { name: 'net1', mac, mtu: 1400, sandbox: '/run/netns/a', pciID: deviceID },
    ]);
    const link = await node.link('net1', 'a');
    expect(link).toMatchObject({ address: mac, mtu: 1400, promiscuity: 0 });
    expect(link.flags).toContain('UP');
    expect(await netdevOf(deviceID)).toBe('');
    const check = await node.cni('CHECK', 'a', { deviceID, mac, mtu: 1400, ipam, prevResult: result });
    expect(check).toMatchObject({ code: 0 });
    // What a pod can do to it.
    await node.sh(`ip -n a link set net1 down
      ip -n a link set net1 name evil0 address 02:00:00:00:66:66 mtu 1300 promisc on alias evil
      ip -n a link property add dev evil0 altname eth0
      ip -n a link property del dev evil0 altname an-altname; ip -n a link set evil0 up`);
    const drifted = await node.cni('CHECK', 'a', { deviceID, mac, mtu: 1400, ipam, prevResult: result });
    expect(drifted.answer).toMatchObject({ code: 103 });
    await node.del('a', { deviceID, ipam });
    await restored();
    await node.sh(`ip link property del dev ${ifname} altname an-altname
      ip link set ${ifname} alias '' mtu 1500 promisc off`);
  });

  test('comes back from a pod that died', async () => {
    await node.add('a', { deviceID, mac: '02:00:00:00:4e:07', mtu: 1400, ipam });
    await node.sh('ip netns del a');
    await node.sh('/opt/cni/bin/sriov gc >&2');
    await restored();
  });

  test('is refused with settings that no PF can program, before anything is changed', async () => {
    for (const [key, value] of Object.entries({
      vlan: 100,
      spoofchk: 'off',
      trust: 'on',
      max_tx_rate: 200,
      link_state: 'enable',
    })) {
      // prettier-ignore
      const { answer, stderr } = await node.cni('ADD', 'a', { deviceID, [key]: value });
      const why = kind.startsWith('a VF') ? 'has no settings of VFs \\(EOPNOTSUPP\\)' : 'only a PF could';
      expect(answer).toMatchObject({
        code: 2,
        msg: expect.stringMatching(new RegExp(`Cannot set "${key}": .*${deviceID}.*${why}`)) as string,
      });
      expect(stderr).not.toMatch(/level="?(info|warning)"? msg="(netdev|MAC|PF)/);
    }
    expect(await claims()).toBe('');
    await restored();
  });

  test('is driven by a process: bound to vfio-pci and back to its own driver', async () => {
    const ifname = await netdevOf(deviceID);
    const answer = await node.add('a', { deviceID, dpdk: true, ipam });
    expect(await node.sh(`readlink /sys/bus/pci/devices/${deviceID}/driver`)).toMatch(/\/vfio-pci$/);
    expect(answer.interfaces?.[0]?.mac).toBe(
      (pristine as { links: { ifname: string; address: string }[] }).links.find((l) => l.ifname === ifname)
        ?.address,
    );
    await node.del('a', { deviceID, ipam });
    // The bus "virtio" may have given it another number.
    const withoutNumber = (state: unknown) => JSON.parse(JSON.stringify(state).replaceAll(/"virtio\d+"/g, '"virtio"')) as unknown; // prettier-ignore
    expect(difference(withoutNumber(pristine), withoutNumber(await node.state()))).toBe('');
  });
});

test('packets pass between NICs of every kind, and to a VF of another card', async () => {
  await node.pods('c');
  await node.sh(`ip link set ${await netdevOf(virtioPf)} up`);
  const result = await node.add('a', { deviceID: e1000e, mac: '02:00:00:00:4e:01', ipam });
  const other = (await node.add('b', { deviceID: virtio, ipam })).ips?.[0]?.address.split('/')[0] ?? '';
  // An e1000e takes a moment to have a carrier.
  await expect.poll(() => node.ping('a', other, 1), { timeout: 20_000 }).toBe(1);
  expect(await node.ping('b', result.ips?.[0]?.address.split('/')[0] ?? '')).toBe(3);
  const igb = (await node.add('c', { deviceID: vfPci(0, 1), ipam })).ips?.[0]?.address.split('/')[0] ?? '';
  await expect.poll(() => node.ping('a', igb, 1), { timeout: 20_000 }).toBe(1);
  await node.del('c', { deviceID: vfPci(0, 1), ipam });
  const vf = (await node.add('c', { deviceID: virtioVf(1), mac: '02:00:00:00:4e:02', ipam })).ips?.[0];
  expect(await node.ping('b', vf?.address.split('/')[0] ?? '')).toBe(3);
  for (const pod of ['a', 'b', 'c']) await node.del(pod, { ipam });
  await node.sh(`ip link set ${await netdevOf(virtioPf)} down`);
  await restored();
});

test('two pods that died with a net1 each are told apart', async () => {
  await node.add('a', { deviceID: e1000e, mac: '02:00:00:00:4e:01', ipam });
  await node.add('b', { deviceID: virtio, mac: '02:00:00:00:4e:02', ipam });
  await node.sh(
    'ip netns del a; ip netns del b; for i in $(seq 50); do ip -br link | grep -q "^dev[0-9]" && break; sleep 0.1; done',
  );
  await node.del('b', { ipam });
  await node.del('a', { ipam });
  await restored();
});

describe('"devices"', () => {
  const devices = [e1000e, virtio];

  test('is a pool: two pods at once get one each, the third is told to come later', async () => {
    await node.pods('c');
    const both = await Promise.all(['a', 'b'].map((pod) => node.add(pod, { devices, ipam })));
    expect(both.map(({ interfaces }) => interfaces?.[0]?.pciID).sort()).toEqual(devices);
    const { answer } = await node.cni('ADD', 'c', { devices, ipam });
    expect(answer).toMatchObject({ code: 11, msg: expect.stringContaining('all 2 are in use') as string });
    expect(answer?.details).toMatch(/belongs to container a/);
    await node.sh('ip netns del a');
    // The pod of the one is gone: the third gets it.
    const [died] = both;
    const third = await node.add('c', { devices, ipam });
    expect(third.interfaces?.[0]?.pciID).toBe(died?.interfaces?.[0]?.pciID);
    await node.del('a', { devices, ipam });
    for (const pod of ['b', 'c']) await node.del(pod, { devices, ipam });
    await restored();
  });

  test('may have VFs among them, and then asks no more than its NICs can', async () => {
    const mixed = [vfPci(0, 0), e1000e];
    const { answer } = await node.cni('ADD', 'a', { devices: mixed, vlan: 100 });
    expect(answer).toMatchObject({ code: 2, msg: expect.stringContaining('"vlan": 100') as string });
    await Promise.all(['a', 'b'].map((pod) => node.add(pod, { devices: mixed })));
    for (const pod of ['a', 'b']) await node.del(pod, { devices: mixed });
    await restored();
  });

  test('never takes the one that the host uses', async () => {
    await node.sh(`ip address add 192.0.2.1/24 dev ${await netdevOf(e1000e)}`);
    const { interfaces } = await node.add('a', { devices });
    expect(interfaces?.[0]?.pciID).toBe(virtio);
    const { answer } = await node.cni('ADD', 'b', { devices });
    expect(answer).toMatchObject({ code: 11, details: expect.stringContaining('it has an IP address') as string }); // prettier-ignore
    await node.del('a', { devices });
    await node.sh(`ip address flush dev ${await netdevOf(e1000e)}`);
    await restored();
  });

  test('as conf-examples/nic-pool.conf has it', async () => {
    const text = readFileSync('conf-examples/nic-pool.conf', 'utf8');
    const example = JSON.parse(text.replace('0000:03:00.0', virtio).replace('0000:02:00.0', e1000e)) as { mac: string; mtu: number }; // prettier-ignore
    const result = await node.add('a', example);
    expect(await node.link('net1', 'a')).toMatchObject({ address: example.mac, mtu: example.mtu });
    expect(await node.cni('CHECK', 'a', { ...example, prevResult: result })).toMatchObject({ code: 0 });
    await node.del('a', example);
    await restored();
  });
});

describe('the NIC that the host uses is not taken, though it is named:', () => {
  test.each([
    [
      'an address',
      'ip address add 192.0.2.1/24 dev NIC',
      'ip address flush dev NIC',
      'it has an IP address on the host',
    ],
    [
      'the default route',
      'ip link set NIC up; ip route add default dev NIC',
      'ip link set NIC down',
      "the host's default route goes over it",
    ],
    [
      'a bridge',
      'ip link add br0 type bridge; ip link set NIC master br0',
      'ip link del br0',
      'it is enslaved to br0',
    ],
    ['a VLAN on it', 'ip link add link NIC name up0 type macvlan', 'ip link del up0', 'up0 is built on it'],
    [
      'a file system over it',
      "mkdir -p /mnt/x; mount -t tmpfs '[fe80::1%NIC]:/export' /mnt/x",
      'umount /mnt/x',
      'the file system on "/mnt/x" is mounted over it',
    ],
  ])('%s', async (_, use, end, why) => {
    // prettier-ignore
    for (const pci of [e1000e, virtio]) {
      const ifname = await netdevOf(pci);
      await node.sh(use.replaceAll('NIC', ifname));
      pristine = await node.state();
      const { answer } = await node.cni('ADD', 'a', { deviceID: pci });
      expect(answer).toMatchObject({
        code: 100,
        msg: expect.stringContaining(`cannot go into a pod: the host uses it: ${why}`) as string,
      });
      await restored();
      await node.sh(end.replaceAll('NIC', ifname));
    }
  });
});

test('another NIC in the place of the one that a pod had is left alone', async () => {
  await node.add('a', { deviceID: e1000e, mac: '02:00:00:00:4e:01', ipam });
  await node.sh('ip netns del a; until ip link show net1 > /dev/null 2>&1; do sleep 0.1; done');
  // As a hypervisor does that unplugs a NIC and plugs in the next one: there is another MAC in the device now.
  await node.sh(`sed -i 's/"permMac": ".*"/"permMac": "02:00:00:00:99:99"/' /var/lib/cni/sriov/claims/${e1000e}.json
    ip link set net1 up`);
  const before = await node.link('net1');
  const { stderr } = await node.cni('DEL', 'a', { ipam });
  expect(stderr).toContain('another NIC is in its place');
  // The carrier comes when it comes.
  const after = await node.link('net1');
  expect(after).toMatchObject({ address: before.address, mtu: before.mtu });
  expect(after.flags).toContain('UP');
  expect(await claims()).toBe('');
  const was = (pristine as { links: { ifname: string; address: string; parentdev: string }[] }).links.find((l) => l.parentdev === e1000e); // prettier-ignore
  await node.sh(`ip link set net1 down; ip link set net1 name ${was?.ifname} address ${was?.address}`);
  await restored();
});

test('a pool of an SR-IOV virtio card takes its VFs by the name of the PF', async () => {
  const pf = await netdevOf(virtioPf);
  const taken = await Promise.all(['a', 'b'].map((pod) => node.add(pod, { pf })));
  expect(taken.map(({ interfaces }) => interfaces?.[0]?.pciID).sort()).toEqual([virtioVf(0), virtioVf(1)]);
  for (const pod of ['a', 'b']) await node.del(pod, { pf });
  await restored();
});

test('a virtio card of which a VF is in a pod can have its VFs counted, not changed', async () => {
  const pf = await netdevOf(virtioPf);
  await node.add('a', { deviceID: virtioVf(0) });
  const { code, stderr } = await node.machine.run(`/opt/cni/bin/sriov vfs ${pf} 3`);
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is attached: a') as string,
  });
  await node.del('a', {});
  expect(await node.sh(`/opt/cni/bin/sriov vfs ${pf} 3; /opt/cni/bin/sriov vfs ${pf} 2`)).toContain(
    '0000:02:00.3',
  );
});

test('sriov list, inspect and check show NICs', async () => {
  await node.add('a', { deviceID: e1000e, mac: '02:00:00:00:4e:01', ipam }, { args: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0' }); // prettier-ignore
  await node.sh(`ip address add 192.0.2.1/24 dev ${await netdevOf(virtio)}`);
  const listed = JSON.parse(await node.sh('sriov list --json')) as Record<string, unknown>[];
  expect(listed.filter(({ kind }) => kind === 'nic')).toEqual([
    expect.objectContaining({ pci: e1000e, state: 'attached', owner: expect.objectContaining({ pod: 'shop/web-0' }) as object }), // prettier-ignore
    expect.objectContaining({ pci: virtio, state: 'foreign', why: 'it has an IP address on the host' }),
  ]);
  expect(listed.filter(({ pci }) => (pci as string).startsWith('0000:02'))).toEqual([
    expect.objectContaining({ pci: virtioPf, kind: 'pf', numVfs: 2, totalVfs: 3 }),
    expect.objectContaining({ pci: virtioVf(0), kind: 'vf', index: 0, state: 'free' }),
    expect.objectContaining({ pci: virtioVf(1), kind: 'vf', index: 1, state: 'free' }),
  ]);
  console.log(await node.sh(`sriov list; sriov inspect ${e1000e}`));
  expect(await node.sh(`sriov inspect shop/web-0`)).toMatch(
    /^NIC 0000:03:00\.0\n[^]*wanted MAC +02:00:00:00:4e:01\n[^]*before +eth\d+, MAC 02:00:00:00:03:00, MTU 1500/,
  );
  const check = async (config: object) => {
    const stdin = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'sriov', ...config });
    return (await node.machine.run('sriov check -', { stdin })).stdout;
  };
  expect(await check({ deviceID: virtio })).toMatch(/refused +NIC eth\d+ .*the host uses it/);
  expect(await check({ deviceID: e1000e })).toMatch(/belongs to .*web-0.*\(code 11\)/);
  await node.del('a', { ipam });
  await node.sh(`ip address flush dev ${await netdevOf(virtio)}`);
  expect(await check({ devices: [e1000e, virtio], vlan: 5 })).toMatch(/refused +Cannot set "vlan": 5/);
  expect(await check({ devices: [e1000e, virtio], mac: '02:00:00:00:4e:01' })).toMatch(
    /takes +NIC eth\d+[^]*sets +mac 02:00:00:00:4e:01[^]*2 of the 2 devices of the pool are free[^]*Nothing speaks against/,
  );
  await restored();
});

test('STATUS says whether the devices could serve', async () => {
  const status = async (config: object) =>
    (await node.cni('STATUS', 'a', { cniVersion: '1.1.0', ...config })).answer;
  expect(await status({ devices: [e1000e, virtio] })).toBeUndefined();
  expect(await status({ deviceID: e1000e, mac: '02:00:00:00:4e:01' })).toBeUndefined();
  expect(await status({ devices: [e1000e], trust: 'on' })).toMatchObject({ code: 50 });
  expect(await status({ devices: ['0000:1f:00.0'] })).toMatchObject({ code: 50 });
});

test('Podman gives a container one of a list, by an option', async () => {
  const call = {
    container_id: 'c'.repeat(64),
    container_name: 'web',
    network: {
      name: 'fast',
      options: { devices: `${e1000e},${virtio}`, mtu: '1400' },
      subnets: [{ subnet: '10.9.0.0/24', gateway: '10.9.0.1' }],
    },
    network_options: { interface_name: 'eth0', static_ips: ['10.9.0.5'], static_mac: '02:00:00:00:4e:05' },
  };
  const stdin = JSON.stringify(call);
  const answer = await node.machine.output('sriov setup /run/netns/a', { stdin });
  expect(JSON.parse(answer)).toMatchObject({ interfaces: { eth0: { mac_address: '02:00:00:00:4e:05' } } });
  expect(await node.link('eth0', 'a')).toMatchObject({ address: '02:00:00:00:4e:05', mtu: 1400 });
  await node.machine.output('sriov teardown /run/netns/a', { stdin });
  await restored();
});
