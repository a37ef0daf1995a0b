import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostLocal, TestNode, vfPci } from '../support/node.ts';

const deviceID = (index: number) => vfPci(0, index);

describe('ADD and DEL of a VF', () => {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 4 });
    const name = await node.sh(`ls /sys/bus/pci/devices/${deviceID(0)}/net`);
    await node.sh(
      `ip link property add dev ${name} altname enp1s0v0 altname an-alternative-name-of-more-than-15`,
    );
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  /** Whatever a test does, the node must look as before in the end. */
  const expectPristine = async () => expect(await node.state()).toEqual(pristine);

  test('every setting is visible on the PF and in the pod, VLANs separate pods, DEL restores everything', async () => {
    await node.pods('a', 'b', 'c');
    const ipam = hostLocal('10.1.0.0/24', { routes: [{ dst: '0.0.0.0/0' }] });
    const config = (index: number, vlan: number) => ({ deviceID: deviceID(index), vlan, ipam });
    const full = {
      ...config(0, 100),
      vlanQoS: 3,
      mac: '02:11:22:33:44:55',
      spoofchk: 'off',
      trust: 'on',
      max_tx_rate: 200,
      mtu: 1400,
    };
    const result = await node.add('a', full);
    expect(result).toMatchObject({
      cniVersion: '1.0.0',
      interfaces: [
        { name: 'net1', mac: '02:11:22:33:44:55', mtu: 1400, sandbox: '/run/netns/a', pciID: deviceID(0) },
      ],
      ips: [{ address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 0 }],
      routes: [{ dst: '0.0.0.0/0' }],
    });
    expect(await node.vf(0, 0)).toMatchObject({
      address: '02:11:22:33:44:55',
      vlan_list: [{ vlan: 100, qos: 3 }],
      rate: { max_tx: 200 },
      spoofchk: false,
      trust: true,
    });
    const link = await node.link('net1', 'a');
    expect(link).toMatchObject({ address: '02:11:22:33:44:55', mtu: 1400, parentdev: deviceID(0) });
    expect(link.flags).toContain('UP');
    expect(await node.addresses('net1', 'a')).toEqual(
      expect.arrayContaining([expect.objectContaining({ local: '10.1.0.2', prefixlen: 24 })]),
    );
    expect(await node.sh('ip -n a route show default')).toContain('default via 10.1.0.1 dev net1');

    await node.add('b', config(1, 100));
    await node.add('c', config(2, 200));
    expect(await node.ping('a', '10.1.0.3')).toBe(3);
    expect(await node.ping('c', '10.1.0.2', 2)).toBe(0);

    await node.sh('ip -n a link set net1 promisc on');
    for (const [pod, index] of [['a', 0], ['b', 1], ['c', 2]] as const) await node.del(pod, config(index, 0)); // prettier-ignore
    await expectPristine();
  });

  test('without "mac" the VF keeps its own', async () => {
    await node.pods('d');
    const before = await node.vf(0, 1);
    const result = await node.add('d', { deviceID: deviceID(1) });
    expect(result.interfaces?.[0]?.mac).toBe(before.address);
    expect((await node.link('net1', 'd')).address).toBe(before.address);
    expect(await node.vf(0, 1)).toEqual(before);
    await node.del('d', {});
    await expectPristine();
  });

  test('with "mac" traffic flows: 100 of 100, and the other pod counts them', async () => {
    await node.pods('e', 'f');
    const ipam = hostLocal('10.2.0.0/24');
    await node.add('e', { deviceID: deviceID(0), mac: '02:00:00:00:0e:01', ipam });
    await node.add('f', { deviceID: deviceID(1), ipam, runtimeConfig: { mac: '02:00:00:00:0f:01' } });
    expect((await node.link('net1', 'f')).address).toBe('02:00:00:00:0f:01');
    const received = async () =>
      Number(
        await node.sh(
          'ip netns exec f cat /sys/class/net/net1/statistics/rx_packets 2>/dev/null || ip -n f -j -s link show net1 | jq .[0].stats64.rx.packets',
        ),
      );
    const before = await received();
    expect(await node.ping('e', '10.2.0.3', 100)).toBe(100);
    expect((await received()) - before).toBeGreaterThanOrEqual(100);
    await node.del('e', {});
    await node.del('f', {});
    await expectPristine();
  });

  test('the MAC of CNI_ARGS works, among everything else that Multus sends', async () => {
    await node.pods('g');
    const args =
      'IgnoreUnknown=true;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_UID=u;K8S_POD_UID=u;IgnoreUnknown=1;MAC=02:00:00:00:00:99';
    const result = await node.add('g', { deviceID: deviceID(3), pciBusID: deviceID(3) }, { args });
    expect(result.interfaces?.[0]?.mac).toBe('02:00:00:00:00:99');
    await node.del('g', {});
    await expectPristine();
  });

  test.each([
    ['IPv6 only', [['fd00:1::/64']], ['fd00:1::2/64'], 'fd00:1::3'],
    ['dual-stack', [['10.3.0.0/24'], ['fd00:3::/64']], ['10.3.0.2/24', 'fd00:3::2/64'], 'fd00:3::3'],
  ])('%s works', async (_, subnets, addresses, peer) => {
    await node.pods('h', 'i');
    const ipam = {
      type: 'host-local',
      ranges: subnets.map((range) => range.map((subnet) => ({ subnet }))),
      routes: [{ dst: '::/0' }],
    };
    const result = await node.add('h', { deviceID: deviceID(0), ipam });
    expect(result.ips?.map(({ address }) => address)).toEqual(addresses);
    await node.add('i', { deviceID: deviceID(1), ipam });
    expect(await node.sh('ip -n h -6 route show default')).toContain('dev net1');
    expect(await node.ping('h', peer)).toBe(3);
    await node.del('h', {});
    await node.del('i', {});
    await node.sh('ip netns del h; ip netns del i');
    await expectPristine();
  });

  test('static IPAM with routes of every kind', async () => {
    await node.pods('j');
    const ipam = {
      type: 'static',
      addresses: [{ address: '10.4.0.5/24', gateway: '10.4.0.1' }],
      routes: [{ dst: '10.9.0.0/16' }, { dst: '10.8.0.0/16', gw: '10.4.0.9' }],
    };
    await node.add('j', { deviceID: deviceID(0), ipam });
    const routes = await node.sh('ip -n j route');
    expect(routes).toContain('10.9.0.0/16 via 10.4.0.1 dev net1');
    expect(routes).toContain('10.8.0.0/16 via 10.4.0.9 dev net1');
    await node.del('j', {});
    await expectPristine();
  });

  describe('what igb refuses is refused with code 2, and nothing stays', () => {
    test.each([
      [
        { link_state: 'enable' },
        'Cannot set "link_state": "enable" on VF 0 (0000:01:10.0) of PF',
        'its driver igb answered EOPNOTSUPP',
      ],
      [{ vlanProto: '802.1ad' }, 'Cannot set "vlanProto": "802.1ad" on VF 0', 'EPROTONOSUPPORT'],
      [{ min_tx_rate: 5 }, 'Cannot set "min_tx_rate": 5, "max_tx_rate": 300 on VF 0', 'EINVAL'],
      [{ mtu: 20000 }, 'Cannot set "mtu": 20000 on', 'its driver takes 68 to'],
    ])('%j', async (setting, ...texts) => {
      await node.pods('k');
      const config = {
        deviceID: deviceID(0),
        vlan: 100,
        mac: '02:00:00:00:00:77',
        trust: 'on',
        max_tx_rate: 300,
        ipam: hostLocal('10.5.0.0/24'),
        ...setting,
      };
      const { code, answer } = await node.cni('ADD', 'k', config);
      expect(code).toBe(1);
      expect(answer?.code).toBe(2);
      for (const text of texts) expect(answer?.msg).toContain(text);
      expect(await node.links('k')).toHaveLength(1);
      await node.sh('ip netns del k');
      await expectPristine();
    });
  });

  test('an interface of that name in the pod is left alone', async () => {
    await node.pods('l');
    await node.sh(
      'ip -n l link add net1 type veth peer name other; ip -n l addr add 10.7.0.1/24 dev net1; ip -n l link set net1 up',
    );
    const before = await node.links('l');
    const { code, answer } = await node.cni('ADD', 'l', {
      deviceID: deviceID(0),
      vlan: 100,
      ipam: hostLocal('10.6.0.0/24'),
    });
    expect(code).toBe(1);
    expect(answer?.msg).toContain('Interface name "net1" is taken');
    expect(await node.links('l')).toEqual(before);
    await node.del('l', { deviceID: deviceID(0) }); // the runtime's DEL after a failed ADD
    expect(await node.links('l')).toEqual(before);
    await expectPristine();
  });

  test.each([
    ['a namespace that is gone', '/run/netns/nowhere', 3],
    ['a file that is no namespace', '/etc/passwd', 8],
    ["the host's own namespace", '/proc/1/ns/net', 8],
  ])('%s is refused', async (_, netns, code) => {
    const { answer } = await node.cni('ADD', 'x', { deviceID: deviceID(0) }, { netns });
    expect(answer?.code).toBe(code);
    await expectPristine();
  });

  test('a failing IPAM plugin gives its own error, and nothing stays', async () => {
    await node.pods('m');
    const ipam = {
      type: 'host-local',
      ranges: [[{ subnet: '10.6.0.0/30', rangeStart: '10.6.0.2', rangeEnd: '10.6.0.2' }]],
    };
    await node.add('m', { deviceID: deviceID(0), ipam });
    await node.pods('n');
    const { answer } = await node.cni('ADD', 'n', {
      deviceID: deviceID(1),
      vlan: 5,
      mac: '02:00:00:00:00:55',
      ipam,
    });
    expect(answer?.msg).toContain('no IP addresses available');
    await node.del('m', {});
    await expectPristine();
  });

  test('a VF in use is refused with code 11, naming the owner', async () => {
    await node.pods('o', 'p');
    await node.add('o', { deviceID: deviceID(0) }, { args: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till' });
    const { answer } = await node.cni('ADD', 'p', { deviceID: deviceID(0) });
    expect(answer).toMatchObject({ code: 11, msg: expect.stringContaining('pod shop/till') as string });
    await node.del('o', {});
    await expectPristine();
  });

  test('neighbours hear of the addresses: of an IPv6 one when it has been probed', async () => {
    await node.pods('q', 'r');
    const ipam = { type: 'static', addresses: [{ address: '10.8.0.5/24' }, { address: 'fd00:8::5/64' }] };
    await node.add('q', { deviceID: deviceID(0) });
    await node.sh(
      'ip netns exec q tcpdump -Z root -i net1 -nn -e -l -v "arp or icmp6" > /run/heard 2>/run/heard.err & echo $! > /run/tcpdump; until grep -q listening /run/heard.err; do sleep 0.05; done',
    );
    await node.add('r', { deviceID: deviceID(1), mac: '02:00:00:00:00:18', ipam });
    const advertised =
      /02:00:00:00:00:18 > 33:33:00:00:00:01,.*\[icmp6 sum ok\] ICMP6, neighbor advertisement.*tgt is fd00:8::5, Flags \[override\].*02:00:00:00:00:18/;
    const hear = async () => (await node.sh('cat /run/heard')).replace(/\n\s+/g, ' ');
    await expect.poll(hear, { timeout: 20_000 }).toMatch(advertised);
    await node.sh('kill $(cat /run/tcpdump)');
    const heard = await hear();
    expect(heard).toMatch(
      /02:00:00:00:00:18 > ff:ff:ff:ff:ff:ff,.*(Request who-has 10\.8\.0\.5.*tell 10\.8\.0\.5|Announcement 10\.8\.0\.5)/,
    );
    // An address is advertised only when nobody else has answered for it.
    const probed = heard.search(/neighbor solicitation.*who has fd00:8::5/);
    expect(probed).toBeGreaterThanOrEqual(0);
    expect(heard.search(advertised)).toBeGreaterThan(probed);
    await node.del('q', {});
    await node.del('r', {});
    await expectPristine();
  });
});
