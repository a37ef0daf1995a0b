import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';
import { isSoak } from '../support/random.ts';
import { readTrace, tracing } from '../support/strace.ts';
import { Testpmd } from '../support/testpmd.ts';

const driverOf = (node: TestNode, pci: string) =>
  node.sh(`basename $(readlink /sys/bus/pci/devices/${pci}/driver || echo none)`);

describe('a VF for DPDK', () => {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, disks: ['dpdk'], processors: 2 });
    await Testpmd.prepare(node);
    await node.pods('a', 'b', 'c');
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());
  // One failure must not become that of all that follow.
  afterEach(({ task }) =>
    task.result?.state === 'fail'
      ? node.sh(`pkill -9 testpmd || true; pkill -9 -f '^perl /run/hold.pl' || true
          for claim in $(ls /var/lib/cni/sriov/claims); do sriov release \${claim%.json} --force >&2 || true; done`)
      : undefined,
  );

  const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');
  const ipam = hostLocal('10.1.0.0/24', { routes: [{ dst: '0.0.0.0/0' }] });
  const networkOf = (index: number, vlan: number) => ({
    deviceID: vfPci(0, index),
    dpdk: true,
    vlan,
    mac: `02:00:00:00:d0:0${index}`,
    ipam,
  });

  test(
    'testpmd has its MAC, and VLANs separate what it sends and receives',
    { timeout: 240_000 },
    async () => {
      const pods = [['a', networkOf(0, 100)], ['b', networkOf(1, 100)], ['c', networkOf(2, 200)]] as const; // prettier-ignore
      for (const [pod, network] of pods) {
        const result = await node.add(pod, network);
        expect(result.interfaces).toEqual([
          {
            name: 'net1',
            mac: network.mac,
            mtu: 1500,
            sandbox: `/run/netns/${pod}`,
            pciID: network.deviceID,
          },
        ]);
        expect(result.ips?.[0]).toMatchObject({
          address: expect.stringMatching(/^10\.1\.0\./) as string,
          interface: 0,
        });
        expect((await node.links(pod)).map(({ ifname }) => ifname)).toEqual(['lo']);
        const check = await node.cni('CHECK', pod, { ...network, prevResult: result });
        expect(check).toMatchObject({ code: 0 });
      }
      const peer = (index: number) => `--eth-peer=0,${networkOf(index, 0).mac}`;

      const receivers = await Testpmd.start(node, 'rx', [vfPci(0, 1), vfPci(0, 2)], '--forward-mode=rxonly');
      const sender = await Testpmd.start(node, 'tx', [vfPci(0, 0)], '--forward-mode=txonly', peer(1));
      expect([...sender.macs, ...receivers.macs]).toEqual([0, 1, 2].map((index) => networkOf(index, 0).mac));
      await node.sh('sleep 1');
      const [out] = await sender.stop();
      const [sameVlan, otherVlan] = await receivers.stop();
      console.log('0 to 1:', out, sameVlan, otherVlan);
      expect(out?.sent).toBeGreaterThan(100);
      expect(sameVlan?.received).toBeGreaterThan(100);
      expect(otherVlan?.received).toBe(0);

      const receiver = await Testpmd.start(node, 'rx', [vfPci(0, 0)], '--forward-mode=rxonly');
      const other = await Testpmd.start(node, 'tx', [vfPci(0, 1)], '--forward-mode=txonly', peer(0));
      await node.sh('sleep 1');
      const [back] = await other.stop();
      const [received] = await receiver.stop();
      console.log('1 to 0:', back, received);
      expect(back?.sent).toBeGreaterThan(100);
      expect(received?.received).toBeGreaterThan(100);

      for (const [pod, network] of pods) await node.del(pod, network);
      await expectPristine();

      const netdev = { ...networkOf(0, 100), dpdk: undefined };
      expect((await node.add('a', netdev)).interfaces?.[0]?.mac).toBe(netdev.mac);
      await node.add('b', { ...netdev, deviceID: vfPci(0, 1), mac: '02:00:00:00:d0:01' });
      expect(
        await node.ping(
          'a',
          (await node.addresses('net1', 'b')).find((a) => a.scope === 'global')?.local ?? '',
        ),
      ).toBe(3);
      await node.del('a', {});
      await node.del('b', {});
      await expectPristine();
    },
  );

  test("without a MAC testpmd sees the netdev's, as the result says", async () => {
    const network = { deviceID: vfPci(0, 3), dpdk: { driver: 'vfio-pci' } };
    const { address } = await node.vf(0, 3);
    const result = await node.add('a', network);
    expect(result.interfaces?.[0]?.mac).toBe(address);
    const testpmd = await Testpmd.start(node, 't', [network.deviceID], '--forward-mode=rxonly');
    expect(testpmd.macs).toEqual([address]);
    await testpmd.stop();
    await node.del('a', network);
    await expectPristine();
  });

  test('a VF that is on vfio-pci already needs no key and stays there', async () => {
    const network = { deviceID: vfPci(0, 4), vlan: 100, mac: '02:00:00:00:d0:04', trust: 'on', ipam };
    const bind = (driver: string) =>
      node.sh(`cd /sys/bus/pci/devices/${network.deviceID}
        echo ${driver} > driver_override; echo ${network.deviceID} > driver/unbind
        echo ${network.deviceID} > /sys/bus/pci/drivers_probe; echo > driver_override`);
    await bind('vfio-pci');
    const before = await node.state();
    const result = await node.add('a', network);
    expect(result).toMatchObject({
      interfaces: [{ name: 'net1', mac: network.mac, pciID: network.deviceID }],
      ips: [{ address: expect.stringMatching(/^10\.1\.0\./) as string }],
    });
    expect(await node.vf(0, 4)).toMatchObject({
      address: network.mac,
      vlan_list: [{ vlan: 100 }],
      trust: true,
    });
    await node.del('a', network);
    expect(difference(before, await node.state())).toBe('');
    await node.sh(`echo ${network.deviceID} > /sys/bus/pci/devices/${network.deviceID}/driver/unbind`);
    // As it was created: igb makes up another MAC, so its name and settings are what counts here.
    await node.sh(`echo ${network.deviceID} > /sys/bus/pci/drivers_probe`);
    pristine = await node.state();
  });

  test('a pool, CHECK, STATUS and the device-info file', async () => {
    const CNIDeviceInfoFile = '/run/k8s.cni.cncf.io/devinfo/cni/a';
    const network = { cniVersion: '1.1.0', pf: `${pfPci(0)}#5-6`, dpdk: true, driver: 'igbvf', vlan: 100 };
    const withFile = { ...network, runtimeConfig: { CNIDeviceInfoFile } };
    await node.sh('modprobe vhost_net');
    const result = await node.add('a', withFile);
    const pci = result.interfaces?.[0]?.pciID ?? '';
    expect([vfPci(0, 5), vfPci(0, 6)]).toContain(pci);
    expect(JSON.parse(await node.sh(`cat ${CNIDeviceInfoFile}`))).toEqual({
      type: 'pci',
      version: '1.1.0',
      pci: { 'pci-address': pci, 'pf-pci-address': pfPci(0), 'vhost-net': '/dev/vhost-net' },
    });
    const second = await node.add('b', network);
    expect(second.interfaces?.[0]?.pciID).not.toBe(pci);
    expect((await node.cni('ADD', 'c', network)).answer).toMatchObject({ code: 11 });
    // Both are in use, on vfio-pci: no reason for the node not to be ready.
    expect((await node.cni('STATUS', '', network)).code).toBe(0);
    const none = await node.cni('STATUS', '', { ...network, driver: 'iavf' });
    expect(none.answer).toMatchObject({ code: 50, msg: expect.stringContaining('not iavf') as string });

    await node.sh(`cd /sys/bus/pci/devices/${pci}; echo ${pci} > driver/unbind`);
    await node.sh(
      `ip link set $(ls /sys/bus/pci/devices/${pfPci(0)}/net) vf ${pci === vfPci(0, 5) ? 5 : 6} vlan 7`,
    );
    const check = await node.cni('CHECK', 'a', { ...withFile, prevResult: result });
    expect(check.answer).toMatchObject({
      code: 103,
      msg: expect.stringMatching(
        /driver is missing, was vfio-pci; the PF has "vlan": 7 for it, not "vlan": 100/,
      ) as string,
    });
    await node.del('a', withFile);
    await node.del('b', network);
    await expectPristine();
  });

  test.each([
    { look: '/dev/vfio', config: {}, falsehood: 'missing' },
    { look: '/host-local', config: { ipam }, falsehood: 'Cannot find' },
  ])('what CHECK has no memory to look at ($look) is not missing', async ({ look, config, falsehood }) => {
    const network = { deviceID: vfPci(0, 3), dpdk: true, ...config };
    const checked = { ...network, prevResult: await node.add('c', network) };
    expect((await node.cni('CHECK', 'c', checked, {}, tracing('c'))).code).toBe(0);
    const { calls } = await readTrace(node, 'c');
    const { name, n } = calls.find((call) => /access/.test(call.name) && call.target.includes(look)) ?? {};
    const failing = `strace -o /dev/null -e inject=${name}:error=ENOMEM:when=${n}`;
    const { answer } = await node.cni('CHECK', 'c', checked, {}, failing);
    expect(answer).toMatchObject({ code: 5, msg: expect.stringContaining('ENOMEM') as string });
    expect(answer?.msg).not.toContain(falsehood);
    await node.del('c', network);
    await expectPristine();
  });

  test('as long as a process has the VF open, nothing is given back', { timeout: 240_000 }, async () => {
    const network = networkOf(0, 100);
    await node.pods('dying', 'next');
    await node.add('dying', network);
    const testpmd = await Testpmd.start(node, 't', [network.deviceID], '--forward-mode=rxonly');
    const held = `dpdk-testpmd (pid ${await testpmd.pid})`;

    // Testpmd has it open until it is killed below: a DEL that waits for it would not end.
    const del = await node.cni('DEL', 'dying', network);
    expect(del.answer).toMatchObject({ code: 11, msg: expect.stringContaining(held) as string });
    await node.sh('ip netns del dying');
    expect(await node.sh('/opt/cni/bin/sriov gc')).toMatch(/left alone: container dying/);
    expect((await node.cni('ADD', 'next', network)).answer).toMatchObject({ code: 11 });
    expect(await node.vf(0, 0)).toMatchObject({ address: network.mac, vlan_list: [{ vlan: 100 }] });
    expect(await driverOf(node, network.deviceID)).toBe('vfio-pci');

    await testpmd.kill();
    expect(await node.sh('/opt/cni/bin/sriov gc')).toMatch(/given back: container dying/);
    await node.sh('ip netns del next');
    await expectPristine();
  });

  test(
    'also where no descriptor shows who it is: the unbind is not waited for',
    { timeout: 240_000 },
    async () => {
      const network = networkOf(0, 100);
      await node.add('a', network);
      const file = await node.sh(
        `echo /dev/vfio/$(basename $(readlink /sys/bus/pci/devices/${network.deviceID}/iommu_group))`,
      );
      // Maps the device's registers and closes all descriptors. VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU (type 1), VFIO_GROUP_GET_DEVICE_FD.
      await node.machine.write(
        '/run/hold.pl',
        `
      require 'syscall.ph' if 0;
      open(my $c, '+<', '/dev/vfio/vfio') or die "container: $!"; open(my $g, '+<', '${file}') or die "group: $!";
      my $fd = pack('i', fileno $c);
      ioctl($g, 0x3b68, $fd) or die "SET_CONTAINER: $!"; ioctl($c, 0x3b66, 1) or die "SET_IOMMU: $!";
      my $name = '${network.deviceID}'; my $d = ioctl($g, 0x3b6a, $name) or die "GET_DEVICE_FD: $!";
      close $g; close $c;
      open(my $ready, '>', '/run/hold.ready'); close $ready; sleep 600;`,
      );
      await node.sh(`perl /run/hold.pl > /run/hold.log 2>&1 & echo $! > /run/hold.pid
      until [ -e /run/hold.ready ]; do kill -0 $(cat /run/hold.pid) || { cat /run/hold.log >&2; exit 1; }; sleep 0.05; done`);
      // Whoever holds it goes on for longer than this test may last: a DEL that waits for it would not end.
      const del = await node.cni('DEL', 'a', network);
      expect(del.answer).toMatchObject({
        code: 11,
        msg: expect.stringContaining('does not let it go') as string,
      });
      expect((await node.vf(0, 0)).vlan_list[0]?.vlan).toBe(100);
      expect(await node.sh('/opt/cni/bin/sriov gc')).toContain('another process is working on it');
      // A runtime's GC has no other place to say it.
      const gc = { ...network, cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] };
      expect((await node.cni('GC', 'a', gc)).stderr).toMatch(
        /VF left alone.*another process is working on it/,
      );
      await node.sh('kill -9 $(cat /run/hold.pid)');
      await node.del('a', network);
      await expectPristine();
    },
  );

  test.each<[string, object, number, string]>([
    ['a driver that is none', { deviceID: vfPci(0, 0), dpdk: { driver: 'vfio' } }, 7, '"driver":"vfio"'],
    [
      'a driver that this kernel does not have',
      { deviceID: vfPci(0, 0), dpdk: { driver: 'igb_uio' } },
      100,
      'does not have that driver',
    ],
    [
      'addresses by DHCP',
      { deviceID: vfPci(0, 0), dpdk: true, ipam: { type: 'dhcp' } },
      7,
      'needs an interface',
    ],
  ])('%s is refused before anything changes', async (_, network, code, text) => {
    const { answer, stderr } = await node.cni('ADD', 'a', network);
    expect(answer).toMatchObject({ code, msg: expect.stringContaining(text) as string });
    expect(stderr).not.toMatch(/programmed|bound/);
    await expectPristine();
  });

  test('a VF that shares its IOMMU group with a device of the host is refused before anything changes', async () => {
    const pci = vfPci(0, 0);
    // Every port of this QEMU has ACS, so the kernel's list of the group's devices is covered by another one.
    await node.sh(`group=$(readlink -f /sys/bus/pci/devices/${pci}/iommu_group)
      mkdir -p /run/group; ln -s /sys/bus/pci/devices/${pci} /sys/bus/pci/devices/${pfPci(0)} /run/group
      mount --bind /run/group $group/devices`);
    const { answer, stderr } = await node.cni('ADD', 'a', { deviceID: pci, dpdk: true, vlan: 100 });
    await node.sh(`umount $(readlink -f /sys/bus/pci/devices/${pci}/iommu_group)/devices`);
    expect(answer).toMatchObject({
      code: 100,
      msg: expect.stringContaining(`${pfPci(0)} is in the same IOMMU group`) as string,
    });
    expect(stderr).not.toMatch(/programmed|bound/);
    await expectPristine();
  });

  test('all VFs of a PF at once, again and again', { timeout: 3_600_000 }, async () => {
    const indices = [0, 1, 2, 3, 4, 5, 6];
    const pods = indices.map((index) => `p${index}`);
    await node.pods(...pods);
    for (let round = 0; round < (isSoak ? 20 : 1); round++) {
      const results = await Promise.all(
        pods.map((pod) => node.add(pod, { pf: pfPci(0), dpdk: true, vlan: 100, ipam })),
      );
      const vfs = results.map(({ interfaces }) => interfaces?.[0]?.pciID ?? '');
      expect([...vfs].sort()).toEqual(indices.map((index) => vfPci(0, index)));
      for (const pci of vfs) expect(await driverOf(node, pci)).toBe('vfio-pci');
      await Promise.all(pods.map((pod) => node.del(pod, {})));
      await expectPristine();
    }
  });
});

describe('without an IOMMU', () => {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 1, iommu: false });
    await node.pods('a');
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  test('vfio-pci is refused before anything changes, with the way out', async () => {
    const { answer, stderr } = await node.cni('ADD', 'a', { deviceID: vfPci(0, 0), dpdk: true, vlan: 100 });
    expect(answer).toMatchObject({
      code: 100,
      msg: expect.stringMatching(/no IOMMU group.*intel_iommu=on/) as string,
    });
    expect(stderr).not.toMatch(/programmed|bound/);
    const status = await node.cni('STATUS', '', { cniVersion: '1.1.0', deviceID: vfPci(0, 0), dpdk: true });
    expect(status.answer).toMatchObject({
      code: 50,
      msg: expect.stringContaining('no IOMMU group') as string,
    });
    expect(difference(pristine, await node.state())).toBe('');
  });

  test('uio_pci_generic needs none', async () => {
    const network = {
      deviceID: vfPci(0, 0),
      dpdk: { driver: 'uio_pci_generic' },
      vlan: 100,
      mac: '02:00:00:00:d1:00',
    };
    await node.add('a', network);
    expect(await driverOf(node, network.deviceID)).toBe('uio_pci_generic');
    const holder = await node.hold('/dev/uio0');
    const { answer } = await node.cni('DEL', 'a', network);
    expect(answer).toMatchObject({ code: 11, msg: expect.stringContaining('sleep (pid') as string });
    await node.kill(holder);
    await node.del('a', network);
    expect(difference(pristine, await node.state())).toBe('');
  });
});
