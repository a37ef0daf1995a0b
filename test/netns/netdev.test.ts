import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Log } from '../../src/kernel/log.ts';
import type { Link } from '../../src/kernel/link-message.ts';
import { changeAltnames, getLinkByName } from '../../src/kernel/link.ts';
import type { Netns } from '../../src/kernel/netns.ts';
import { Sysfs } from '../../src/kernel/sysfs.ts';
import { system } from '../../src/kernel/system.ts';
import { configureIp, prepareLink } from '../../src/vf/addressing.ts';
import { announce } from '../../src/vf/announce.ts';
import type { Host } from '../../src/vf/host.ts';
import type { Vf } from '../../src/vf/inventory.ts';
import { parseCidr, parseIp, parseNetwork } from '../../src/vf/ip.ts';
import { moveIntoPod, moveToHost, netdevState } from '../../src/vf/netdev.ts';
import { restoreNetdev } from '../../src/vf/netdev-restore.ts';
import { run, TestNetns } from '../support/netns.ts';

// One end of a veth pair stands in for a VF's netdev; the lab has the real ones.
const vf: Vf = {
  pci: '0000:03:02.0',
  index: 0,
  driver: 'veth',
  ifnames: [],
  pf: { pci: '0000:03:00.0', ifname: 'pf', driver: 'igb', numVfs: 1, totalVfs: 1 },
};

function hostOf(netns: Netns): Host {
  return { sys: new Sysfs(), netns, stateDir: '/nonexistent', bootId: 'boot', log: new Log('panic') };
}

/** A host with the netdev `vf0` (its peer is `peer`), and a pod. */
function stage() {
  const host = new TestNetns();
  const pod = new TestNetns();
  host.ip('link', 'add', 'vf0', 'type', 'veth', 'peer', 'name', 'peer');
  host.ip('link', 'set', 'peer', 'up');
  const [hostNetns, podNetns] = [host.open(), pod.open()];
  return {
    host,
    pod,
    hostNetns,
    podNetns,
    [Symbol.dispose]() {
      hostNetns[Symbol.dispose]();
      podNetns[Symbol.dispose]();
      pod[Symbol.dispose]();
      host[Symbol.dispose]();
    },
  };
}

async function linkOf(netns: Netns, ifname: string): Promise<Link> {
  const link = await getLinkByName(netns.rtnl, ifname);
  if (!link) throw new Error(`no link ${ifname}`);
  return link;
}

/** The stage's VF, moved into the pod as net1. */
async function moved({ hostNetns, podNetns }: ReturnType<typeof stage>): Promise<Link> {
  return moveIntoPod(hostOf(hostNetns), podNetns, vf, await linkOf(hostNetns, 'vf0'), 'net1', {
    mtu: undefined,
  });
}

describe('moveIntoPod()', () => {
  test('moves, renames, sets the MTU, brings up and clears promisc in one go', async () => {
    using s = stage();
    s.host.ip('link', 'set', 'vf0', 'promisc', 'on');
    const link = await moveIntoPod(
      hostOf(s.hostNetns),
      s.podNetns,
      vf,
      await linkOf(s.hostNetns, 'vf0'),
      'net1',
      { mtu: 1400 },
    );
    expect(link).toMatchObject({ ifname: 'net1', mtu: 1400 });
    expect(s.pod.ipJson('link', 'show', 'net1')[0]).toMatchObject({
      mtu: 1400,
      promiscuity: 0,
      flags: expect.arrayContaining(['UP']) as string[],
    });
    expect(() => s.host.ip('link', 'show', 'vf0')).toThrow();
  });

  test('works where the new name exists on the host', async () => {
    using s = stage();
    s.host.ip('link', 'add', 'net1', 'type', 'veth', 'peer', 'name', 'other');
    await moved(s);
    expect(s.pod.ipJson('link', 'show', 'net1')).toHaveLength(1);
  });
});

describe('moveToHost()', () => {
  /** A VF of the stage in the pod as net1, and what it was before. */
  async function attached(s: ReturnType<typeof stage>) {
    const host = hostOf(s.hostNetns);
    const original = netdevState(await linkOf(s.hostNetns, 'vf0'));
    const link = await moved(s);
    const back = async () => moveToHost(host, s.podNetns, vf, await linkOf(s.podNetns, 'net1'), original);
    return { link, back };
  }

  test('gives the link back, down, under its host name', async () => {
    using s = stage();
    const { back } = await attached(s);
    expect(await back()).toBe('vf0');
    expect(s.host.ipJson('link', 'show', 'vf0')[0]?.['flags']).not.toContain('UP');
  });

  test('takes another name where its own is taken', async () => {
    using s = stage();
    const { back } = await attached(s);
    s.host.ip('link', 'add', 'vf0', 'type', 'ifb');
    await back();
    expect(s.host.ipJson('link', 'show', 'dev0')[0]).toMatchObject({ linkinfo: { info_kind: 'veth' } });
  });

  test('gets its name back even where it has become an alternative name of its own', async () => {
    using s = stage();
    const { link, back } = await attached(s);
    await changeAltnames(s.podNetns.rtnl, 'add', link.ifindex, ['vf0']);
    expect(await back()).toBe('vf0');
  });

  test.each([
    ['the name of a link of the host', ['taken']],
    ['the alternative name of a link of the host', ['alias-of-taken']],
    [
      'fifty names, two of them taken',
      [...Array.from({ length: 48 }, (_, i) => `mine${i}`), 'taken', 'alias-of-taken'],
    ],
  ])('a pod cannot keep it by giving it %s', async (_, names) => {
    using s = stage();
    const { link, back } = await attached(s);
    s.host.ip('link', 'add', 'taken', 'type', 'ifb');
    s.host.ip('link', 'property', 'add', 'dev', 'taken', 'altname', 'alias-of-taken');
    await changeAltnames(s.podNetns.rtnl, 'add', link.ifindex, names);
    expect(await back()).toBe('vf0');
    expect((await linkOf(s.hostNetns, 'vf0')).altnames).toEqual([]);
  });

  test('is not kept by an alternative name of its own that the host has given away meanwhile', async () => {
    using s = stage();
    s.host.ip('link', 'property', 'add', 'dev', 'vf0', 'altname', 'own');
    const host = hostOf(s.hostNetns);
    const original = netdevState(await linkOf(s.hostNetns, 'vf0'));
    const { back } = await attached(s);
    s.host.ip('link', 'add', 'own', 'type', 'ifb');
    await back();
    const [name = ''] = ['vf0', 'dev0'].filter((one) => s.host.ip('-br', 'link').includes(`${one}@`));
    await restoreNetdev(host, vf, await linkOf(s.hostNetns, name), original);
    expect(s.host.ipJson('link', 'show', 'vf0')).toHaveLength(1);
  });
});

/** Loads a program that passes everything on, and attaches it to a link as `ip link set ... xdpgeneric` does. */
const attachXdp = `
import ctypes, os, platform, socket, struct, sys
instructions = struct.pack('<BBhi', 0xb7, 0, 0, 2) + struct.pack('<BBhi', 0x95, 0, 0, 0) # r0 = XDP_PASS; exit
code, licence = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b'GPL')
attribute = struct.pack('<IIQQIIQII16s', 6, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0, b'')
bpf = 280 if platform.machine() == 'aarch64' else 321
fd = ctypes.CDLL(None, use_errno=True).syscall(bpf, 5, attribute, len(attribute)) # BPF_PROG_LOAD, type XDP
if fd < 0: sys.exit(os.strerror(ctypes.get_errno()))
xdp = struct.pack('<HHi', 8, 1, fd) + struct.pack('<HHI', 8, 3, 2) # IFLA_XDP_FD, IFLA_XDP_FLAGS: generic
body = struct.pack('<BxHiII', 0, 0, socket.if_nametoindex(sys.argv[1]), 0, 0) + struct.pack('<HH', 4 + len(xdp), 43 | 0x8000) + xdp
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.send(struct.pack('<IHHII', 16 + len(body), 19, 5, 1, 0) + body)
sys.exit(-struct.unpack_from('<i', netlink.recv(4096), 16)[0])`;

test('a program that the pod put into the receive path does not see the next pod’s traffic', async () => {
  using s = stage();
  const host = hostOf(s.hostNetns);
  const original = netdevState(await linkOf(s.hostNetns, 'vf0'));
  run('ip', 'netns', 'exec', s.host.name, 'python3', '-c', attachXdp, 'vf0');
  expect(s.host.ip('link', 'show', 'vf0')).toContain('xdpgeneric');
  await restoreNetdev(host, vf, await linkOf(s.hostNetns, 'vf0'), original);
  expect(s.host.ip('link', 'show', 'vf0')).not.toContain('xdp');
});

test('restoreNetdev() takes the alias away that the pod gave it, and keeps the one of before', async () => {
  using s = stage();
  const host = hostOf(s.hostNetns);
  const bare = netdevState(await linkOf(s.hostNetns, 'vf0'));
  s.host.ip('link', 'set', 'vf0', 'alias', 'evil');
  await restoreNetdev(host, vf, await linkOf(s.hostNetns, 'vf0'), bare);
  expect(s.host.ip('link', 'show', 'vf0')).not.toContain('alias');
  s.host.ip('link', 'set', 'vf0', 'alias', 'port of rack 7');
  const named = netdevState(await linkOf(s.hostNetns, 'vf0'));
  s.host.ip('link', 'set', 'vf0', 'alias', 'evil');
  await restoreNetdev(host, vf, await linkOf(s.hostNetns, 'vf0'), named);
  expect(s.host.ip('link', 'show', 'vf0')).toContain('alias port of rack 7');
});

test('restoreNetdev() takes a name that its owner gives up while we look who that is', async () => {
  using s = stage();
  const original = netdevState(await linkOf(s.hostNetns, 'vf0'));
  s.host.ip('link', 'set', 'vf0', 'name', 'late');
  s.host.ip('link', 'add', 'vf0', 'type', 'ifb');
  // A VF that is given back at the same time: by now it has its own name, and sysfs nothing under this one.
  class Renaming extends Sysfs {
    override linkName(path: string): string | undefined {
      if (path === 'class/net/vf0/device') s.host.ip('link', 'set', 'vf0', 'name', 'its-own');
      return undefined;
    }
  }
  const host = { ...hostOf(s.hostNetns), sys: new Renaming() };
  await restoreNetdev(host, vf, await linkOf(s.hostNetns, 'late'), original);
  expect(s.host.ipJson('link', 'show', 'vf0')[0]).toMatchObject({ linkinfo: { info_kind: 'veth' } });
});

test('restoreNetdev() brings back name, alternative names, MAC, MTU and promisc', async () => {
  using s = stage();
  const host = hostOf(s.hostNetns);
  const longName = 'a-name-that-is-longer-than-fifteen-characters';
  s.host.ip('link', 'property', 'add', 'dev', 'vf0', 'altname', 'old', 'altname', longName);
  s.host.ip('link', 'set', 'vf0', 'allmulticast', 'on');
  const before = netdevState(await linkOf(s.hostNetns, 'vf0'));
  expect(before.altnames).toEqual(['old', longName]);

  s.host.ip('link', 'set', 'vf0', 'name', 'net1');
  s.host.ip('link', 'property', 'del', 'dev', 'net1', 'altname', 'old');
  s.host.ip('link', 'property', 'add', 'dev', 'net1', 'altname', 'new', 'altname', 'vf0');
  s.host.ip(
    'link',
    'set',
    'net1',
    'address',
    '02:00:00:00:00:77',
    'mtu',
    '1280',
    'promisc',
    'on',
    'allmulticast',
    'off',
    'up',
  );
  await restoreNetdev(host, vf, await linkOf(s.hostNetns, 'net1'), before);

  const after = await linkOf(s.hostNetns, 'vf0');
  expect({ ...netdevState(after), altnames: [...after.altnames].sort() }).toEqual({
    ...before,
    altnames: [...before.altnames].sort(),
  });
  expect(s.host.ipJson('link', 'show', 'vf0')[0]?.['flags']).not.toContain('UP');
});

describe('configureIp()', () => {
  const cidr = (text: string, gateway?: string) => {
    const parsed = parseCidr(text);
    if (!parsed) throw new Error(text);
    return { ...parsed, gateway: gateway === undefined ? undefined : parseIp(gateway) };
  };
  const route = (dst: string, rest: object = {}) => {
    const network = parseNetwork(dst);
    if (!network) throw new Error(dst);
    return { dst: network.bytes, prefixLength: network.prefixLength, gateway: undefined, ...rest };
  };

  async function attached(s: ReturnType<typeof stage>): Promise<Link> {
    const link = await moved(s);
    prepareLink(s.podNetns, 'net1');
    return link;
  }

  test('adds IPv4 addresses with their broadcast, and routes with all their attributes', async () => {
    using s = stage();
    const link = await attached(s);
    const routes = [
      route('0.0.0.0/0'),
      route('10.9.0.7/16', { gateway: parseIp('10.1.0.2'), priority: 50, mtu: 1300, advmss: 1200 }),
      route('10.8.0.0/16', { table: 1000 }),
    ];
    const config = { addresses: [cidr('10.1.0.5/24', '10.1.0.1'), cidr('10.7.0.1/32')], routes };
    await configureIp(s.podNetns, link, config);
    await configureIp(s.podNetns, link, config); // what is there already is fine
    const [shown] = s.pod.ipJson('addr', 'show', 'net1') as { addr_info: object[] }[];
    expect(shown?.addr_info).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ local: '10.1.0.5', prefixlen: 24, broadcast: '10.1.0.255' }),
        expect.objectContaining({ local: '10.7.0.1', prefixlen: 32 }),
      ]),
    );
    expect(s.pod.ipJson('-4', 'route', 'show')).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ dst: 'default', gateway: '10.1.0.1', dev: 'net1' }),
        expect.objectContaining({
          dst: '10.9.0.0/16',
          gateway: '10.1.0.2',
          metric: 50,
          metrics: [{ mtu: 1300, advmss: 1200 }],
        }),
      ]),
    );
    expect(s.pod.ipJson('route', 'show', 'table', '1000')).toEqual([
      expect.objectContaining({ dst: '10.8.0.0/16', gateway: '10.1.0.1' }),
    ]);
  });

  test('turns IPv6 on, and waits until its addresses are known to be unique', async () => {
    using s = stage();
    run(
      'ip',
      'netns',
      'exec',
      s.pod.name,
      'sysctl',
      '-qw',
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
    );
    const link = await attached(s);
    const known = await configureIp(s.podNetns, link, {
      addresses: [cidr('fd00::5/64', 'fd00::1')],
      routes: [route('::/0')],
    });
    expect(known).toEqual([parseIp('fd00::5')]);
    const [shown] = s.pod.ipJson('addr', 'show', 'net1') as {
      addr_info: { local: string; tentative?: boolean }[];
    }[];
    expect(shown?.addr_info.find((a) => a.local === 'fd00::5')).toBeDefined();
    expect(shown?.addr_info.some((a) => a.tentative)).toBe(false);
    expect(s.pod.ipJson('-6', 'route', 'show', 'default')).toEqual([
      expect.objectContaining({ gateway: 'fd00::1', dev: 'net1' }),
    ]);
  });

  test('nobody is to hear of an IPv6 address that is still being probed', async () => {
    using s = stage();
    const link = await attached(s);
    const addresses = [cidr('10.1.0.5/24', '10.1.0.1'), cidr('fd00::5/64')];
    expect(await configureIp(s.podNetns, link, { addresses, routes: [] })).toEqual([parseIp('10.1.0.5')]);
  });

  test('refuses an IPv6 address that another host has', async () => {
    using s = stage();
    s.host.ip('addr', 'add', 'fd00::5/64', 'dev', 'peer', 'nodad');
    const link = await attached(s);
    await expect(
      configureIp(s.podNetns, link, { addresses: [cidr('fd00::5/64', 'fd00::1')], routes: [] }),
    ).rejects.toThrow(/Cannot use address .* on net1: EADDRINUSE \(another host has it/);
  });

  test('names the route that the kernel refuses', async () => {
    using s = stage();
    const link = await attached(s);
    const routes = [route('10.9.0.0/16', { gateway: parseIp('192.0.2.1') })];
    await expect(configureIp(s.podNetns, link, { addresses: [cidr('10.1.0.5/24')], routes })).rejects.toThrow(
      /Cannot add route 10\.9\.0\.0\/16 through net1: ENETUNREACH \(Nexthop has invalid gateway\)/,
    );
  });
});

describe('announce()', () => {
  const counters = (s: ReturnType<typeof stage>) =>
    (s.host.ipJson('-s', 'link', 'show', 'peer')[0] as { stats64: { rx: { packets: number } } }).stats64.rx
      .packets;

  test('sends at once on a link with carrier', async () => {
    using s = stage();
    const link = await moved(s);
    const before = counters(s);
    expect(announce(s.podNetns, link, [Uint8Array.of(10, 0, 0, 1)])).toBe(true);
    expect(counters(s)).toBeGreaterThan(before);
  });

  // The first process of a container need not reap orphans (a thick Multus without hostPID): they would stay as zombies.
  test("leaves no child behind in a PID namespace that is not the host's", async () => {
    using s = stage();
    const link = await moved(s);
    const script = `
      import { announce } from ${JSON.stringify(resolve('src/vf/announce.ts'))};
      import { Netns } from ${JSON.stringify(resolve('src/kernel/netns.ts'))};
      const pod = Netns.open(${JSON.stringify(s.pod.path)});
      process.exitCode = announce(pod, ${JSON.stringify(link)}, [Uint8Array.of(10, 0, 0, 1)]) ? 0 : 1;`;
    const node = [process.execPath, '--input-type=module', '-e', script];
    const before = counters(s);
    // A first process that reaps nothing but the one it waits for.
    const first =
      'import os, subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(os.popen("ps -e -o stat=,comm=").read())';
    const processes = run('unshare', '--pid', '--fork', '--mount-proc', 'python3', '-c', first, ...node);
    expect(counters(s)).toBeGreaterThan(before);
    expect(processes).not.toMatch(/^Z|node/m);
  });

  test('leaves it to a child where the carrier is still missing', async () => {
    using s = stage();
    s.host.ip('link', 'set', 'peer', 'down');
    s.host.ip('link', 'set', 'peer', 'addrgenmode', 'none');
    run('ip', 'netns', 'exec', s.pod.name, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1'); // no packets but ours
    const link = await moved(s);
    expect(announce(s.podNetns, link, [Uint8Array.of(10, 0, 0, 1)])).toBe(false); // came back without the carrier
    expect(counters(s)).toBe(0);
    s.host.ip('link', 'set', 'peer', 'up');
    await expect.poll(() => counters(s), { timeout: 3000 }).toBe(1);
  });

  // It would keep the VF from the host, and a pool's next pod from the VF, for as long as it waits.
  test('whose child lets go of a pod that has died', async () => {
    using host = new TestNetns();
    {
      using pod = new TestNetns();
      host.ip('link', 'add', 'peer', 'type', 'veth', 'peer', 'name', 'net1', 'netns', pod.name);
      pod.ip('link', 'set', 'net1', 'up'); // its peer is down: no carrier
      using netns = pod.open();
      const { ifindex } = await linkOf(netns, 'net1');
      const frames = [{ protocol: 0x0806, to: new Uint8Array(6), bytes: new Uint8Array(28) }];
      const { path, identity } = netns;
      const isSent = netns.inside(() =>
        system.announce('net1', ifindex, frames, 60_000, path, identity.inode),
      );
      expect(isSent).toBe(false);
    }
    await expect.poll(() => host.ipJson('link', 'show').length, { timeout: 10_000 }).toBe(1); // lo
  });
});
