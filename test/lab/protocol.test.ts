import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

const config = {
  deviceID: vfPci(0, 0),
  vlan: 100,
  trust: 'on',
  mac: '02:00:00:00:70:01',
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24', { routes: [{ dst: '10.9.0.0/16' }] }),
};

describe('the protocol', () => {
  let node: TestNode;
  let pristine: unknown;
  let pf: string;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 2, vfs: 3 });
    pf = await node.sh(`ls /sys/bus/pci/devices/${pfPci(0)}/net`);
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());
  const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');

  test('each version gets a result of its own form, and a pod is attached and detached with it', async () => {
    for (const cniVersion of ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0']) {
      const pod = `v${cniVersion.replaceAll('.', '')}`;
      await node.pods(pod);
      const result = (await node.add(pod, { ...config, mac: undefined, cniVersion })) as unknown as Record<
        string,
        unknown
      >;
      expect(result['cniVersion']).toBe(cniVersion);
      expect(Object.keys(result).includes('ip4')).toBe(cniVersion < '0.3.0');
      expect(JSON.stringify(result).includes('pciID')).toBe(cniVersion >= '1.0.0');
      await node.del(pod, { ...config, cniVersion });
    }
    // Debian's host-local does not know 1.1.0; static of this version does not either, so without addresses.
    await node.pods('v110');
    expect(await node.add('v110', { deviceID: vfPci(0, 0), cniVersion: '1.1.0' })).toMatchObject({
      cniVersion: '1.1.0',
    });
    await node.del('v110', { cniVersion: '1.1.0' });
    await expectPristine();
  });

  test('what 0.2.0 cannot express is refused before anything changes', async () => {
    await node.pods('a');
    const { answer, stderr } = await node.cni('ADD', 'a', { deviceID: vfPci(0, 0), cniVersion: '0.2.0' });
    expect(answer).toMatchObject({ cniVersion: '0.2.0', code: 2 });
    expect(stderr).not.toContain('programmed');
    await expectPristine();
  });

  describe('CHECK', () => {
    let result: object;
    const check = (prevResult: object | undefined = result) =>
      node.cni('CHECK', 'b', { ...config, prevResult });

    beforeAll(async () => {
      await node.pods('b');
      result = await node.add('b', config);
    });
    afterAll(async () => {
      await node.del('b', config);
      await expectPristine();
    });

    test('says nothing where all is well', async () => {
      expect(await check()).toMatchObject({ code: 0, answer: undefined });
    });

    test('needs prevResult, and a version that knows it', async () => {
      expect((await node.cni('CHECK', 'b', config)).answer?.code).toBe(7);
      expect(
        (await node.cni('CHECK', 'b', { ...config, cniVersion: '0.3.1', prevResult: result })).answer?.code,
      ).toBe(1);
    });

    test.each<[string, string, string, string]>([
      ['MTU', 'ip -n b link set net1 mtu 1300', 'ip -n b link set net1 mtu 1400', 'MTU is 1300, was 1400'],
      [
        'VLAN on the PF',
        'ip link set $PF vf 0 vlan 200',
        'ip link set $PF vf 0 vlan 100',
        'the PF has "vlan": 200 for it, not "vlan": 100',
      ],
      [
        'trust',
        'ip link set $PF vf 0 trust off',
        'ip link set $PF vf 0 trust on',
        'the PF has "trust": "off" for it, not "trust": "on"',
      ],
      [
        'address',
        'ip -n b addr del $ADDRESS dev net1',
        'ip -n b addr add $ADDRESS dev net1; ip -n b route add 10.9.0.0/16 via 10.1.0.1',
        'address $ADDRESS is missing',
      ],
      [
        'route',
        'ip -n b route del 10.9.0.0/16',
        'ip -n b route add 10.9.0.0/16 via 10.1.0.1',
        'route 10.9.0.0/16 is missing',
      ],
      [
        'link down',
        'ip -n b link set net1 down',
        'ip -n b link set net1 up; ip -n b route add 10.9.0.0/16 via 10.1.0.1',
        'link is down',
      ],
      [
        'interface name',
        'ip -n b link set net1 down; ip -n b link set net1 name x; ip -n b link set x up',
        'ip -n b link set x down; ip -n b link set x name net1; ip -n b link set net1 up; ip -n b route add 10.9.0.0/16 via 10.1.0.1',
        'interface name is x, was net1',
      ],
    ])('finds a changed %s', async (_, change, back, text) => {
      const address = (result as { ips: { address: string }[] }).ips[0]?.address ?? '';
      const fill = (script: string) => script.replaceAll('$PF', pf).replaceAll('$ADDRESS', address);
      await node.sh(fill(change));
      const { answer } = await check();
      await node.sh(fill(back));
      expect(answer).toMatchObject({ code: 103, msg: expect.stringContaining(fill(text)) as string });
      expect(await check()).toMatchObject({ code: 0 });
    });

    test('finds a changed MAC on the PF', async () => {
      await node.sh(`ip link set ${pf} vf 0 mac 02:00:00:00:70:99`);
      const { answer } = await check();
      await node.sh(`ip link set ${pf} vf 0 mac ${config.mac}`);
      expect(answer?.msg).toContain(
        'the PF has "mac": "02:00:00:00:70:99" for it, not "mac": "02:00:00:00:70:01"',
      );
    });

    test('finds a swapped VF', async () => {
      const other = await node.sh(`ls /sys/bus/pci/devices/${vfPci(0, 1)}/net`);
      await node.sh(
        `ip -n b link set net1 down; ip -n b link set net1 netns 1 name swapped; ip link set ${other} netns b name net1`,
      );
      const { answer } = await check();
      await node.sh(`ip -n b link set net1 netns 1 name ${other}; ip link set swapped netns b name net1
        ip -n b link set net1 up; ip -n b addr add $(jq -r '.ips[0].address' <<< '${JSON.stringify(result)}') dev net1; ip -n b route add 10.9.0.0/16 via 10.1.0.1`);
      expect(answer).toMatchObject({
        code: 103,
        msg: expect.stringContaining("it is not in the pod's namespace") as string,
      });
      expect(await check()).toMatchObject({ code: 0 });
    });

    test('follows prevResult where a later plugin changed MAC and MTU by right', async () => {
      const changed = JSON.parse(JSON.stringify(result)) as { interfaces: { mtu: number }[] };
      changed.interfaces.forEach((i) => (i.mtu = 1290));
      await node.sh('ip -n b link set net1 mtu 1290');
      expect(await check(changed)).toMatchObject({ code: 0 });
      await node.sh('ip -n b link set net1 mtu 1400');
    });

    test('asks the IPAM plugin', async () => {
      const lease = await node.sh(
        'ls /var/lib/cni/networks/net/10.*; mkdir -p /run/kept; mv /var/lib/cni/networks/net/10.* /run/kept',
      );
      const { answer } = await check();
      await node.sh(`mv /run/kept/* /var/lib/cni/networks/net/`);
      expect(lease).toContain('10.1.0');
      expect(answer?.msg).toContain('IPAM plugin "host-local" failed at CHECK');
    });

    test('finds that nothing is attached', async () => {
      const { answer } = await node.cni('CHECK', 'b', { ...config, prevResult: result }, { ifname: 'net9' });
      expect(answer).toMatchObject({
        code: 103,
        msg: expect.stringContaining('no VF is attached') as string,
      });
    });
  });

  describe('STATUS', () => {
    const status = (given: object) =>
      node.cni('STATUS', '', { cniVersion: '1.1.0', ...given }, { containerId: '', netns: '', ifname: '' });
    test.each<[string, object]>([
      ['a pool', { pf: pfPci(0) }],
      ['a VF', { deviceID: vfPci(0, 0) }],
      ['whatever a device plugin will choose', {}],
    ])('is fine for %s', async (_, given) =>
      expect(await status(given)).toMatchObject({ code: 0, answer: undefined }),
    );

    test('says 50 and why', async () => {
      expect((await status({ pf: 'ens9' })).answer).toMatchObject({
        code: 50,
        msg: expect.stringContaining('Cannot find PF "ens9"') as string,
      });
      await node.sh(`echo 0 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`);
      const { answer } = await status({ pf: pfPci(1) });
      await node.sh(`echo 3 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`);
      pristine = await node.state();
      expect(answer).toMatchObject({
        code: 50,
        msg: expect.stringMatching(/has 0 VFs of 7: echo N > .*sriov_numvfs/) as string,
      });
    });

    test('says 50 where no state can be kept', async () => {
      await node.sh('mkdir -p /var/lib/cni/sriov; mount -t tmpfs -o ro tmpfs /var/lib/cni/sriov');
      const { answer } = await status({ pf: pfPci(0) });
      await node.sh('umount /var/lib/cni/sriov');
      expect(answer).toMatchObject({
        code: 50,
        msg: expect.stringContaining('/var/lib/cni/sriov') as string,
      });
    });

    test('asks the IPAM plugin', async () => {
      const { answer } = await status({ pf: pfPci(0), ipam: { type: 'host-local' } });
      expect(answer?.msg).toContain('IPAM plugin "host-local" failed at STATUS'); // Debian's knows neither STATUS nor 1.1.0
    });

    test('is fine where all of a pool are in use', async () => {
      await node.pods('s1', 's2', 's3');
      for (const pod of ['s1', 's2', 's3']) await node.add(pod, { pf: pfPci(0) });
      expect((await node.cni('ADD', 's4', { pf: pfPci(0) }, { netns: '/run/netns/b' })).answer).toMatchObject(
        { code: 11, msg: expect.stringContaining('all 3 are in use') as string },
      );
      expect(await status({ pf: pfPci(0) })).toMatchObject({ code: 0 });
      for (const pod of ['s1', 's2', 's3']) await node.del(pod, {});
      await expectPristine();
    });

    test('needs 1.1.0', async () => expect((await status({ cniVersion: '1.0.0' })).answer?.code).toBe(1));
  });

  describe('GC', () => {
    const gc = (given: object) =>
      node.cni('GC', '', { cniVersion: '1.1.0', ...given }, { containerId: '', netns: '', ifname: '' });
    const claims = async () => (await node.sh('ls /var/lib/cni/sriov/claims')).split('\n').filter(Boolean);

    beforeAll(() => node.pods('g1', 'g2', 'g3'));
    const attachAll = async () => {
      for (const pod of ['g1', 'g2']) await node.add(pod, { pf: pfPci(0), vlan: 5 });
      await node.add('g3', { pf: pfPci(0), name: 'other' });
    };
    const detachAll = async () => {
      for (const pod of ['g1', 'g2', 'g3']) await node.del(pod, {});
      await expectPristine();
    };

    test.each(['cni.dev/valid-attachments', 'cni.dev/attachments'])(
      '%s: what is not listed goes, other networks stay',
      async (key) => {
        await attachAll();
        expect(await gc({ [key]: [{ containerID: 'g1', ifname: 'net1' }] })).toMatchObject({
          code: 0,
          answer: undefined,
        });
        expect(await claims()).toHaveLength(2);
        expect((await node.links('g1')).some(({ ifname }) => ifname === 'net1')).toBe(true);
        expect((await node.links('g2')).some(({ ifname }) => ifname === 'net1')).toBe(false);
        expect((await node.links('g3')).some(({ ifname }) => ifname === 'net1')).toBe(true);
        await detachAll();
      },
    );

    test.each([[null], [[]]])('%j: nothing is valid', async (list) => {
      await attachAll();
      await gc({ 'cni.dev/attachments': list, 'cni.dev/valid-attachments': list });
      expect(await claims()).toHaveLength(1);
      await detachAll();
    });

    test('without a list living pods are only reported', async () => {
      await attachAll();
      await node.sh('ip netns del g2');
      const { code, stderr } = await gc({});
      expect(code).toBe(0);
      expect(stderr).toContain('VF left alone');
      expect(await claims()).toHaveLength(2);
      await node.pods('g2');
      await detachAll();
    });

    test('a list that is none is refused, and nothing goes', async () => {
      await attachAll();
      for (const list of ['x', [{}], [5]])
        expect((await gc({ 'cni.dev/valid-attachments': list })).answer?.code, JSON.stringify(list)).toBe(7);
      expect(await claims()).toHaveLength(3);
      await detachAll();
    });
  });

  describe('chains', () => {
    test('behind another plugin its result is passed on with ours', async () => {
      await node.pods('h');
      const prevResult = {
        cniVersion: '1.0.0',
        interfaces: [{ name: 'eth0', mac: '0a:00:00:00:00:01', sandbox: '/run/netns/h' }],
        ips: [{ address: '10.244.0.5/24', gateway: '10.244.0.1', interface: 0 }],
        routes: [{ dst: '0.0.0.0/0' }],
        dns: { nameservers: ['10.96.0.10'] },
      };
      const result = await node.add('h', { ...config, prevResult });
      expect(result.interfaces?.map(({ name }) => name)).toEqual(['eth0', 'net1']);
      expect(result.ips?.map((ip) => ip.interface)).toEqual([0, 1]);
      expect(result.routes?.map(({ dst }) => dst)).toEqual(['0.0.0.0/0', '10.9.0.0/16']);
      expect((result as { dns?: object }).dns).toEqual({ nameservers: ['10.96.0.10'] });
      await node.del('h', { ...config, prevResult: result });
      await expectPristine();
    });

    test("Debian's tuning works behind us: promiscuous mode, MTU and a sysctl, and DEL still restores everything", async () => {
      await node.pods('i');
      const prevResult = await node.add('i', { deviceID: vfPci(0, 0) });
      const tuning = {
        cniVersion: '1.0.0',
        name: 'net',
        type: 'tuning',
        promisc: true,
        mtu: 1300,
        sysctl: { 'net.ipv4.conf.IFNAME.forwarding': '1' },
        prevResult,
      };
      const env =
        'CNI_COMMAND=ADD CNI_CONTAINERID=i CNI_NETNS=/run/netns/i CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin';
      const changed = JSON.parse(
        await node.sh(`${env} /opt/cni/bin/tuning <<< '${JSON.stringify(tuning)}'`),
      ) as object;
      expect(await node.link('net1', 'i')).toMatchObject({ mtu: 1300 });
      expect((await node.cni('CHECK', 'i', { deviceID: vfPci(0, 0), prevResult: changed })).code).toBe(0);
      await node.del('i', {});
      await expectPristine();
    });
  });

  test('device-info is written for Multus, and goes with the pod', async () => {
    await node.pods('j');
    const file = '/var/run/k8s.cni.cncf.io/devinfo/cni/default-net-j_net1';
    await node.sh('mkdir -p /var; ln -sfn /run /var/run');
    await node.add('j', { deviceID: vfPci(0, 0), runtimeConfig: { CNIDeviceInfoFile: file } });
    expect(JSON.parse(await node.sh(`cat ${file}`))).toEqual({
      type: 'pci',
      version: '1.1.0',
      pci: { 'pci-address': vfPci(0, 0), 'pf-pci-address': pfPci(0) },
    });
    await node.del('j', {});
    await expectPristine();
    const { answer } = await node.cni('ADD', 'j', {
      deviceID: vfPci(0, 0),
      runtimeConfig: { CNIDeviceInfoFile: '/etc/cron.d/x' },
    });
    expect(answer).toMatchObject({ code: 7, msg: expect.stringContaining('/etc/cron.d/x') as string });
  });
});
