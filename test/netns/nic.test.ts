import { describe, expect, test } from 'vitest';
import { makePlan } from '../../src/attach/plan.ts';
import type { Wish } from '../../src/attach/wish.ts';
import type { Link } from '../../src/kernel/link-message.ts';
import { getLinkByName } from '../../src/kernel/link.ts';
import { carryMac } from '../../src/vf/carried-mac.ts';
import { findDevice } from '../../src/vf/inventory.ts';
import { nicUse } from '../../src/vf/nic.ts';
import { candidates } from '../../src/vf/pool.ts';
import { TestHost } from '../support/test-host.ts';
import { devices, nicTree, type Tree } from '../support/sysfs-tree.ts';

const pci = '0000:02:00.0';

/** A host with the NIC "eth1" (its peer is "peer"). */
function stage(more: Tree = {}) {
  const all = new TestHost([nicTree({ pci }), more]);
  const { host, netns } = all;
  netns.ip('link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'peer');
  netns.ip('link', 'set', 'peer', 'up');
  return {
    netns,
    host,
    async link(ifname = 'eth1'): Promise<Link> {
      const link = await getLinkByName(host.netns.rtnl, ifname);
      if (!link) throw new Error(`no link ${ifname}`);
      return link;
    },
    [Symbol.dispose]: () => all[Symbol.dispose](),
  };
}

describe('nicUse()', () => {
  test('lets a NIC go that is only up', async () => {
    using s = stage();
    s.netns.ip('link', 'set', 'eth1', 'up');
    await expect.poll(() => s.netns.ip('-6', 'route', 'show', 'dev', 'eth1')).toContain('fe80::');
    expect(await nicUse(s.host, await s.link())).toBeUndefined();
  });

  // Only a host whose addresses are elsewhere has routes over a link without one.
  test.each([
    ['default dev eth1', "the host's default route goes over it"],
    ['-6 default via fe80::1 dev eth1', "the host's default route goes over it"],
    ['10.0.0.0/8 dev eth1', "the host's route to 10.0.0.0/8 goes over it"],
    ['10.0.0.0/8 dev eth1 table 100', "the host's route to 10.0.0.0/8 goes over it"],
    ['-6 fd00::/8 dev eth1', "the host's route to fd00::/8 goes over it"],
    ['default nexthop dev peer nexthop dev eth1', "the host's default route goes over it"],
    [
      '-6 default nexthop via fe80::1 dev peer nexthop via fe80::1 dev eth1',
      "the host's default route goes over it",
    ],
  ])('keeps the host its route: %s', async (route, use) => {
    using s = stage();
    s.netns.ip('link', 'set', 'lo', 'up');
    s.netns.ip('link', 'set', 'eth1', 'up');
    const [first = '', ...rest] = route.split(' ');
    const words = first === '-6' ? ['-6', 'route', 'add', ...rest] : ['route', 'add', ...route.split(' ')];
    s.netns.ip(...words);
    expect(await nicUse(s.host, await s.link())).toBe(use);
    expect(await nicUse(s.host, { ...(await s.link()), ifindex: 4711 })).toBeUndefined();
  });

  test('leaves the host the NIC that has an address, or is in a bridge', async () => {
    using s = stage();
    s.netns.ip('address', 'add', '192.0.2.1/24', 'dev', 'eth1');
    expect(await nicUse(s.host, await s.link())).toBe('it has an IP address on the host');
    s.netns.ip('address', 'flush', 'dev', 'eth1');
    s.netns.ip('link', 'add', 'br0', 'type', 'bridge');
    s.netns.ip('link', 'set', 'eth1', 'master', 'br0');
    expect(await nicUse(s.host, await s.link())).toContain('it is enslaved to');
  });
});

const wish: Wish = {
  network: 'net',
  device: { kind: 'vf', pci },
  dpdk: undefined,
  rdma: undefined,
  settings: {},
  minTxRate: undefined,
  maxTxRate: undefined,
  mtu: undefined,
  podIfname: 'net1',
  deviceInfoFile: undefined,
  pod: undefined,
};

describe('the plan for a NIC', () => {
  test('is its MAC on the netdev, and nothing on a PF', async () => {
    using s = stage();
    const plan = await makePlan(
      s.host,
      { ...wish, settings: { mac: '02:00:00:00:00:77' } },
      findDevice(s.host.sys, pci),
    );
    expect(plan).toMatchObject({
      pf: undefined,
      settings: {},
      wanted: { mac: '02:00:00:00:00:77' },
      link: { ifname: 'eth1' },
    });
  });

  test.each<[Partial<Wish>, string]>([
    [{ settings: { vlan: { id: 100, qos: 3, proto: '802.1q' } } }, '"vlan": 100, "vlanQoS": 3'],
    [{ settings: { vlan: { id: 0, qos: 0, proto: '802.1q' } } }, '"vlan": 0'],
    [
      { settings: { spoofchk: false, trust: true, mac: '02:00:00:00:00:77' } },
      '"spoofchk": "off", "trust": "on"',
    ],
    [{ settings: { linkState: 'auto' } }, '"link_state": "auto"'],
    [{ maxTxRate: 200 }, '"max_tx_rate": 200'],
    [{ minTxRate: 0, maxTxRate: 0 }, '"min_tx_rate": 0, "max_tx_rate": 0'],
    [{ dpdk: {}, settings: { mac: '02:00:00:00:00:77' } }, '"mac": "02:00:00:00:00:77"'],
  ])('refuses what only a PF could program: %j', async (more, setting) => {
    using s = stage();
    await expect(makePlan(s.host, { ...wish, ...more }, findDevice(s.host.sys, pci))).rejects.toMatchObject({
      name: 'Unsupported',
      message: `Cannot set ${setting} on NIC eth1 (${pci}): only a PF could, and this machine has none for it`,
    });
  });

  test('never takes the one that the host uses', async () => {
    using s = stage();
    s.netns.ip('link', 'set', 'eth1', 'up');
    s.netns.ip('route', 'add', 'default', 'dev', 'eth1');
    await expect(makePlan(s.host, wish, findDevice(s.host.sys, pci))).rejects.toThrow(
      `NIC eth1 (${pci}) cannot go into a pod: the host uses it: the host's default route goes over it`,
    );
  });
});

describe('carryMac() of a NIC', () => {
  test('sets it, on a link that was up, too', async () => {
    using s = stage();
    s.netns.ip('link', 'set', 'eth1', 'up');
    await carryMac(s.host, findDevice(s.host.sys, pci), await s.link(), '02:00:00:00:00:77');
    expect(s.netns.ipJson('link', 'show', 'eth1')[0]).toMatchObject({ address: '02:00:00:00:00:77' });
  });

  // A driver without ndo_set_mac_address, as AWS's ena; nothing must be tried beyond that: a reload of its driver would bring no other MAC.
  test('tells what the driver answered', async () => {
    using s = stage();
    s.netns.ip('tuntap', 'add', 'dev', 'none', 'mode', 'tun');
    await expect(
      carryMac(s.host, findDevice(s.host.sys, pci), await s.link('none'), '02:00:00:00:00:77'),
    ).rejects.toMatchObject({
      name: 'SettingRefused',
      message: expect.stringMatching(
        /^Cannot set "mac": "02:00:00:00:00:77" on NIC eth1 \(0000:02:00\.0\): its driver e1000e answered EOPNOTSUPP/,
      ) as string,
    });
  });
});

describe('candidates() of a list of devices', () => {
  const second = '0000:03:00.0';
  const both = { pfs: [], devices: [second, pci] };

  test('are those that are there', () => {
    using s = stage();
    expect(candidates(s.host, both).map((one) => one.pci)).toEqual([pci]);
  });

  test('are refused where none is there, or one cannot serve', () => {
    using s = stage(devices({ [second]: { class: '0x010802\n' } }));
    expect(() => candidates(s.host, both)).toThrow(`Cannot use ${second}`);
    expect(() => candidates(s.host, { pfs: [], devices: ['0000:09:00.0'] })).toThrow(
      'Cannot find any device of "devices": 0000:09:00.0',
    );
  });
});
