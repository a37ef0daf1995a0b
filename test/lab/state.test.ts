import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';
import { atStandstill } from '../support/standstill.ts';
import { readTrace, tracing } from '../support/strace.ts';

const config = {
  deviceID: vfPci(0, 0),
  vlan: 100,
  mac: '02:00:00:00:50:01',
  trust: 'on',
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24'),
};
const claimFile = `/var/lib/cni/sriov/claims/${config.deviceID}.json`;

describe('the claim survives', () => {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 2, vfs: 3 });
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');
  const netdevOf = (pci: string) => node.sh(`ls /sys/bus/pci/devices/${pci}/net`);

  test.each([
    ['with its path', {}],
    ['with an empty CNI_NETNS', { netns: '' }],
  ])('a pod whose namespace is gone: DEL %s restores everything', async (_, attachment) => {
    await node.pods('a');
    await node.add('a', config);
    await node.sh('ip netns del a');
    await node.del('a', config, attachment);
    await expectPristine();
    expect(await node.sh('ip -br link')).not.toContain('net1');
  });

  test('DEL twice, and DEL of what never was', async () => {
    await node.pods('b');
    await node.add('b', config);
    await node.del('b', config);
    await node.del('b', config);
    await node.del('b', config, { netns: '' });
    await node.del('never', config);
    await node.sh('ip netns del b');
    await expectPristine();
  });

  test('a late DEL of an old pod touches nothing of the new one, but frees the old address', async () => {
    await node.pods('old', 'new');
    await node.add('old', config);
    await node.sh('ip netns del old');
    const result = await node.add('new', { ...config, vlan: 200, mac: '02:00:00:00:50:02' });
    const before = [
      await node.vf(0, 0),
      await node.link('net1', 'new'),
      await node.sh('ls /var/lib/cni/networks/net'),
    ];
    await node.del('old', config);
    await node.del('old', config, { netns: '' });
    expect([
      await node.vf(0, 0),
      await node.link('net1', 'new'),
      await node.sh('ls /var/lib/cni/networks/net'),
    ]).toEqual(before);
    expect(result.interfaces?.[0]?.mac).toBe('02:00:00:00:50:02');
    expect(await node.sh('grep -l old /var/lib/cni/networks/net/10.* || true')).toBe('');
    await node.del('new', config);
    await node.sh('ip netns del new');
    await expectPristine();
  });

  test('a stdin that has lost its keys, as Multus 4.3 sends it for a conflist', async () => {
    await node.pods('c');
    await node.add('c', config);
    await node.del('c', { deviceID: undefined, ipam: { type: 'host-local' } });
    await expectPristine();
  });

  test('a claim that somebody removed: DEL frees the address and says nothing is to be given back', async () => {
    await node.pods('d');
    await node.add('d', { deviceID: vfPci(0, 1), ipam: config.ipam });
    await node.sh(`rm /var/lib/cni/sriov/claims/${vfPci(0, 1)}.json`);
    await node.del('d', { deviceID: vfPci(0, 1), ipam: config.ipam });
    expect(await node.sh('ls /var/lib/cni/networks/net | grep ^10 || true')).toBe('');
    // Without a claim the kernel alone gives the netdev back, under its pod name.
    const name = (pristine as { links: { parentdev?: string; ifname: string }[] }).links.find(
      (l) => l.parentdev === vfPci(0, 1),
    )?.ifname;
    await node.sh(
      `ip netns del d; until ip link show net1 2>/dev/null; do sleep 0.1; done; ip link set net1 down; ip link set net1 name ${name}`,
    );
    await expectPristine();
  });

  test('a renamed PF', async () => {
    await node.pods('e');
    await node.add('e', config);
    const pf = await netdevOf(pfPci(0));
    await node.sh(`ip link set ${pf} down; ip link set ${pf} name renamed0; ip link set renamed0 up`);
    await node.del('e', config);
    await node.sh(`ip link set renamed0 down; ip link set renamed0 name ${pf}; ip link set ${pf} up`);
    await expectPristine();
  });

  test.each(['ENOMEM', 'EACCES'])('a VF that cannot be looked at (%s) is not gone', async (errno) => {
    await node.sh('ip netns list | grep -qw unseen || ip netns add unseen');
    await node.add('unseen', config);
    await node.cni('DEL', 'unseen', config, {}, tracing('unseen'));
    await node.add('unseen', config);
    const { calls } = await readTrace(node, 'unseen');
    const look = calls.find(({ target }) => target.endsWith(`${config.deviceID}/physfn`));
    expect(look).toMatchObject({ name: 'readlink', n: 1 });
    const failing = `strace -o /dev/null -e inject=readlink:error=${errno}:when=1`;
    const { code, answer } = await node.cni('DEL', 'unseen', config, {}, failing);
    expect({ code, answer }).toMatchObject({ code: 1, answer: { code: 5 } });
    expect(answer?.msg).toContain('physfn');
    expect(await node.sh(`ls ${claimFile}`)).toBe(claimFile);
    await node.del('unseen', config);
    await expectPristine();
  });

  // Between two looks, at sysfs and at the link of the name that it told: udev renames.
  describe.each([
    { whose: 'netdev', of: vfPci(0, 0), to: vfPci(0, 1) },
    { whose: 'PF', of: pfPci(0), to: pfPci(1) },
  ])("a name of its $whose that goes to another's while a call reads it", ({ whose, of, to }) => {
    // Without a MAC, for which the driver is loaded anew and looked for until it is there: the calls are the same each time.
    const plain = { ...config, mac: undefined };
    const lastLook = async (command: string): Promise<number> => {
      await node.cni(command, 'swap', plain, {}, tracing('swap'));
      const { calls } = await readTrace(node, 'swap');
      const looks = calls.filter((call) => call.name === 'getdents64' && call.target.endsWith(`/${of}/net`));
      return looks.at(-1)?.n ?? 0;
    };
    const rename = (from: string, name: string) =>
      `ip link set ${from} down; ip link set ${from} name ${name}; ip link set ${name} up`;

    test.each(['ADD', 'DEL'])('%s', async (command) => {
      await node.sh('ip netns list | grep -qw swap || ip netns add swap');
      await node.add('swap', plain);
      await node.del('swap', plain);
      await expectPristine();
      const looks = { ADD: await lastLook('ADD'), DEL: await lastLook('DEL') };
      const [ours, others] = [await netdevOf(of), await netdevOf(to)];
      if (command === 'DEL') await node.add('swap', plain);
      const point = { call: 'getdents64', n: looks[command as 'ADD' | 'DEL'] };
      const swap = `${rename(ours, 'aside')}; ${rename(others, ours)}`;
      const { code, answer } = await atStandstill(node, point, swap, (stop) =>
        node.cni(command, 'swap', plain, {}, stop),
      );
      if (command === 'ADD' && code === 0)
        expect((await node.link('net1', 'swap')).parentdev).toBe(config.deviceID);
      if (code !== 0) expect(answer?.code).toBe(11);
      await node.sh(rename(ours, others));
      await node.del('swap', plain);
      const now = await netdevOf(of);
      if (now !== ours) await node.sh(rename(now, ours));
      // VFs' netdevs were down.
      if (whose === 'netdev') await node.sh(`ip link set ${ours} down; ip link set ${others} down`);
      await expectPristine();
    });
  });

  test('VFs that were created anew meanwhile', async () => {
    await node.pods('f');
    const ipam = hostLocal('10.1.0.0/24');
    await node.add('f', { ...config, deviceID: vfPci(1, 0), ipam });
    await node.sh(
      `echo 0 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs; echo 3 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`,
    );
    const before = await node.state();
    await node.del('f', config);
    const after = await node.state();
    // The VF is a new one, but it was promised to be as it was at ADD: MAC and name of then.
    expect(difference(before, after)).toContain(`-/var/lib/cni/sriov/claims/${vfPci(1, 0)}.json`);
    expect(await node.sh('ls /var/lib/cni/networks/net | grep ^10 || true')).toBe('');
    expect(await node.sh('ls /var/lib/cni/sriov/claims')).toBe('');
    pristine = after;
  });

  test('VFs that are gone altogether', async () => {
    await node.pods('g');
    await node.add('g', { ...config, deviceID: vfPci(1, 1) });
    await node.sh(`echo 0 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`);
    await node.del('g', config);
    expect(
      await node.sh('ls /var/lib/cni/sriov/claims; ls /var/lib/cni/networks/net | grep ^10 || true'),
    ).toBe('');
    await node.sh(`echo 3 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`);
    pristine = await node.state();
  });

  test('a host name that somebody else has taken', async () => {
    const name = await netdevOf(config.deviceID);
    await node.pods('h');
    await node.add('h', config);
    await node.sh(`ip link add ${name} type bridge`);
    const { stderr } = await node.cni('DEL', 'h', config);
    expect(stderr).toMatch(/its host name is taken.* newHostIfname="dev0"/);
    const other = await netdevOf(config.deviceID);
    expect(other).toMatch(/^dev\d+$/);
    await node.sh(`ip link del ${name}; ip link set ${other} name ${name}`);
    await expectPristine();
  });

  test('a VF whose driver somebody unloaded', async () => {
    await node.pods('i');
    await node.add('i', config);
    await node.sh(`echo ${config.deviceID} > /sys/bus/pci/devices/${config.deviceID}/driver/unbind`);
    await node.del('i', config);
    await expectPristine();
  });

  test('a reboot: the claim is stale, the VF is left as the boot left it, the address is freed', async () => {
    await node.pods('j');
    await node.add('j', config);
    // What a reboot does: namespaces gone, VFs at their defaults, another boot id.
    await node.sh(`
      ip netns del j; until [ -e /sys/bus/pci/devices/${config.deviceID}/net/net1 ]; do sleep 0.05; done
      echo 0 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs; echo 3 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
      cat /proc/sys/kernel/random/uuid > /run/boot_id; mount --bind /run/boot_id /proc/sys/kernel/random/boot_id`);
    const before = (await node.state()) as { links: unknown; rest: string };
    await node.del('j', config, { netns: '' });
    const after = (await node.state()) as { links: unknown; rest: string };
    expect(after.links).toEqual(before.links);
    expect(difference(before, after)).toContain('-/var/lib/cni/networks/net/10.1.0');
    expect(await node.sh('ls /var/lib/cni/sriov/claims')).toBe('');
    pristine = after;

    await node.pods('k', 'l');
    await node.add('k', config);
    await node.sh(
      'cat /proc/sys/kernel/random/uuid > /run/boot_id; ip netns del k; until [ -e /sys/class/net/net1 ]; do sleep 0.05; done',
    );
    const result = await node.add('l', { ...config, mac: undefined, vlan: undefined, trust: undefined });
    expect(result.interfaces?.[0]?.pciID).toBe(config.deviceID);
    await node.del('l', config);
    expect(await node.sh('ls /var/lib/cni/sriov/claims')).toBe('');
    await node.sh(`umount /proc/sys/kernel/random/boot_id
      echo 0 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs; echo 3 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs`);
    pristine = await node.state();
  });

  test('a dead namespace that a process still holds: try again later, and the PF keeps the VLAN', async () => {
    await node.pods('m');
    await node.add('m', config);
    await node.sh(`ip netns exec m sh -c 'touch /run/inside; exec sleep 1000' > /dev/null 2>&1 & echo $! > /run/holder
      until [ -e /run/inside ]; do sleep 0.05; done; ip netns del m`);
    const { answer } = await node.cni('DEL', 'm', config);
    expect(answer).toMatchObject({
      code: 11,
      msg: expect.stringContaining('something still holds its namespace') as string,
    });
    expect((await node.vf(0, 0)).vlan_list[0]?.vlan).toBe(100);
    await node.pods('n');
    expect((await node.cni('ADD', 'n', config)).answer?.code).toBe(11);
    expect(await node.sh('/opt/cni/bin/sriov gc')).toContain('left alone: container m');
    await node.sh('kill $(cat /run/holder)');
    await node.del('m', config);
    await node.sh('ip netns del n');
    await expectPristine();
  });

  test('an unreadable claim is put aside, and the VF can be used', async () => {
    await node.sh(`mkdir -p $(dirname ${claimFile}); echo '{"version": 1, "vf"' > ${claimFile}`);
    await node.pods('o');
    const other = { deviceID: vfPci(0, 1) };
    await node.add('o', other, { ifname: 'net2' });
    await node.del('o', {}, { ifname: 'net2' }); // another's broken file stops nobody
    const { code, stderr } = await node.cni('ADD', 'o', config);
    expect(code).toBe(0);
    expect(stderr).toContain('unreadable claim put aside');
    await node.del('o', config);
    expect(await node.sh(`cat ${claimFile}.unreadable; rm ${claimFile}.unreadable`)).toBe(
      '{"version": 1, "vf"',
    );
    await expectPristine();
  });

  test('killed IPAM: a plugin that hangs dies with the ADD and holds the VF until then', async () => {
    await node.machine.write(
      '/opt/cni/bin/slow',
      '#!/bin/sh\ncat > /dev/null\n[ "$CNI_COMMAND" = ADD ] && exec sleep 1000\nexit 0\n',
      0o755,
    );
    await node.pods('p');
    const slow = { ...config, ipam: { type: 'slow' } };
    const killed = node.cni('ADD', 'p', slow);
    await node.sh('until pgrep -f "sleep 100[0]"; do sleep 0.05; done; pkill -KILL -x sriov');
    expect((await killed).code).toBe(128 + 9);
    await node.sh('while pgrep -f "sleep 100[0]"; do sleep 0.05; done');
    await node.del('p', slow);
    await node.sh('ip netns del p');
    await expectPristine();
  });
});

describe('a node that comes from the Go plugin', () => {
  let node: TestNode;
  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 3 });
  });
  afterAll(() => node[Symbol.asyncDispose]());

  /** Attaches a VF as that plugin does, and writes what it writes (its cache file and allocation record). */
  async function attachAsGoPlugin(pod: string, index: number): Promise<unknown> {
    await node.pods(pod);
    const pristine = await node.state();
    const pci = vfPci(0, index);
    const host = await node.sh(`ls /sys/bus/pci/devices/${pci}/net`);
    const pf = await node.sh(`ls /sys/bus/pci/devices/${pfPci(0)}/net`);
    const { address } = await node.link(host);
    const cache = {
      cniVersion: '1.0.0', name: 'net', type: 'sriov', ipam: { type: 'host-local' }, dns: {},
      OrigVfState: { HostIFName: host, SpoofChk: true, Trust: false, AdminMAC: address, EffectiveMAC: address, Vlan: 0, VlanQoS: 0, VlanProto: 33024, MinTxRate: 0, MaxTxRate: 0, LinkState: 0, MTU: 1500 },
      Master: pf, MAC: '02:00:00:00:60:01', MTU: 1500, VFID: index, vlan: 100, vlanQoS: 3, vlanProto: '802.1q',
      deviceID: pci, min_tx_rate: null, max_tx_rate: 200, trust: 'on', logLevel: 'info', runtimeConfig: {},
    }; // prettier-ignore
    await node.machine.write(`/var/lib/cni/sriov/${pod}-net1`, JSON.stringify(cache), 0o600);
    await node.machine.write(`/var/lib/cni/sriov/pci/${pci}`, `/run/netns/${pod}`, 0o600);
    await node.sh(`
      ip link set ${pf} vf ${index} mac 02:00:00:00:60:01 vlan 100 qos 3 max_tx_rate 200 trust on
      ip link set ${host} netns ${pod} name net1
      ip -n ${pod} link set net1 mtu 1280 promisc on up
      mkdir -p /var/lib/cni/networks/net; printf '%s\\r\\n%s' ${pod} net1 > /var/lib/cni/networks/net/10.9.0.${10 + index}`);
    return pristine;
  }
  const stdin = (index: number) => ({ deviceID: vfPci(0, index), ipam: hostLocal('10.9.0.0/24') });

  test('its pods are restored by our DEL', async () => {
    const pristine = await attachAsGoPlugin('a', 0);
    await node.del('a', stdin(0));
    expect(difference(pristine, await node.state())).toBe('');
  });

  test('also when their namespace is gone', async () => {
    const pristine = await attachAsGoPlugin('b', 1);
    await node.sh('ip netns del b');
    await node.del('b', stdin(1), { netns: '' });
    expect(difference(pristine, await node.state())).toBe('');
  });

  test('its VFs are not given out while their pods live, and are when they are gone', async () => {
    await attachAsGoPlugin('c', 2);
    await node.pods('d');
    const { answer } = await node.cni('ADD', 'd', stdin(2));
    expect(answer).toMatchObject({
      code: 11,
      msg: expect.stringContaining('the Go plugin attached, in "/run/netns/c"') as string,
    });
    const pool = await node.cni('ADD', 'd', { pf: pfPci(0), vf: 2 });
    expect(pool.answer).toMatchObject({ code: 11, details: expect.stringContaining('Go plugin') as string });
    await node.sh(
      `ip netns del c; until [ -e /sys/bus/pci/devices/${vfPci(0, 2)}/net/net1 ]; do sleep 0.05; done`,
    );
    expect((await node.add('d', stdin(2))).interfaces?.[0]?.pciID).toBe(vfPci(0, 2));
    // A late DEL of its old pod finds the VF in other hands.
    await node.del('c', stdin(2), { netns: '' });
    expect((await node.link('net1', 'd')).parentdev).toBe(vfPci(0, 2));
    await node.del('d', stdin(2));
  });

  test('a VF whose pod died is restored before the next pod gets it, and by gc', async () => {
    const settings = async () => {
      const { vlan_list, trust, rate } = await node.vf(0, 1);
      return { vlan: vlan_list[0]?.vlan ?? 0, trust, rate: rate.max_tx };
    };
    const pristine = await attachAsGoPlugin('f', 1);
    expect(await settings()).toEqual({ vlan: 100, trust: true, rate: 200 });
    await node.sh(
      `ip netns del f; until [ -e /sys/bus/pci/devices/${vfPci(0, 1)}/net/net1 ]; do sleep 0.05; done`,
    );
    expect(await node.sh('sriov list')).toMatch(new RegExp(`${vfPci(0, 1)}.*stale.*was container f`));
    await node.pods('g');
    await node.add('g', { deviceID: vfPci(0, 1) });
    expect(await settings()).toEqual({ vlan: 0, trust: false, rate: 0 });
    await node.del('g', { deviceID: vfPci(0, 1) });
    await node.sh(
      'rm -f /var/lib/cni/networks/net/10.9.0.*; for name in $(ls /var/lib/cni/sriov/leases); do sriov release ${name%.json} --force; done',
    );
    expect(difference(pristine, await node.state())).toBe('');

    const before = await attachAsGoPlugin('h', 1);
    await node.sh(
      `ip netns del h; until [ -e /sys/bus/pci/devices/${vfPci(0, 1)}/net/net1 ]; do sleep 0.05; done`,
    );
    expect(await node.sh('sriov gc --dry-run')).toContain('would be given back: container h');
    await node.sh(
      'sriov gc || true; rm -f /var/lib/cni/networks/net/10.9.0.*; rm -f /var/lib/cni/sriov/leases/*',
    );
    expect(difference(before, await node.state())).toBe('');
  });

  test('a DEL that has lost all of the IPAM but its type gives the VF back and keeps the address as a lease', async () => {
    const pristine = await attachAsGoPlugin('i', 0);
    await node.del('i', { deviceID: vfPci(0, 0), ipam: { type: 'host-local' } });
    expect(await node.sh('sriov list')).toMatch(/no IP ranges specified/);
    // What is free is free for everybody, and a DEL that says more frees the address.
    await node.pods('j');
    await node.add('j', { deviceID: vfPci(0, 0) });
    await node.del('j', { deviceID: vfPci(0, 0) });
    await node.del('i', stdin(0));
    expect(difference(pristine, await node.state())).toBe('');
  });

  test('its DEL takes the VF out of the pod also where a stale claim of ours lies under it', async () => {
    await node.pods('k');
    await node.add('k', { deviceID: vfPci(0, 0), trust: 'on' });
    await node.sh(
      `ip netns del k; until [ -e /sys/bus/pci/devices/${vfPci(0, 0)}/net/net1 ]; do sleep 0.05; done`,
    );
    await attachAsGoPlugin('l', 0);
    await node.del('l', stdin(0));
    expect(await node.sh('ip -n l -br link')).not.toContain('net1');
    await node.sh('sriov gc');
    expect(await node.vf(0, 0)).toMatchObject({ trust: false });
    expect((await node.vf(0, 0)).vlan_list[0]?.vlan ?? 0).toBe(0);
  });

  test('its lock is ours', async () => {
    await node.pods('e');
    const lock = `/var/lib/cni/sriov/pci/vf_lock/${vfPci(0, 0)}.lock`;
    await node.sh(`mkdir -p ${lock.replace(/[^/]*$/, '')}; flock ${lock} sh -c 'touch /run/taken; until [ -e /run/over ]; do sleep 0.05; done' > /dev/null 2>&1 &
      until [ -e /run/taken ]; do sleep 0.05; done`);
    let hasEnded = false;
    const added = node.add('e', stdin(0)).finally(() => (hasEnded = true));
    await node.sh(
      `until pgrep -x sriov; do sleep 0.05; done; sleep 2; [ ! -e /var/lib/cni/sriov/claims/${vfPci(0, 0)}.json ]`,
    );
    expect(hasEnded).toBe(false);
    await node.sh('touch /run/over');
    await added;
    await node.del('e', stdin(0));
  });
});
