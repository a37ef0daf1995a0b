import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isSoak, sample, seed, seeded } from '../support/random.ts';
import { allowAll, refuse } from '../support/igb-faults.ts';
import { type CniAnswer, difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

/** Two cards on one hub: the uplinks of one host. The other end of all pings is a VF of the third card on the same hub. */
let node: TestNode;
let pristine: unknown;
let pfs: string[];
beforeAll(async () => {
  node = await TestNode.start({ pfs: 3, vfs: 3, nics: ['e1000e'], disks: ['faults'] });
  pfs = (await node.sh(`ls ${[0, 1, 2].map((card) => `/sys/bus/pci/devices/${pfPci(card)}/net`).join(' ')}`))
    .split('\n')
    .filter((line) => /^e/.test(line));
  await node.sh('modprobe dummy numdummies=0');
  await node.pods('first', 'far');
  await node.add('first', { bond: { pfs: [pfPci(0), pfPci(1)] } }); // makes the folders, loads the driver
  await node.del('first', {});
  await node.sh('ip netns del first');
  await node.add('far', { deviceID: vfPci(2, 0), ipam: farIpam });
});
afterAll(() => node[Symbol.asyncDispose]());

beforeEach(async () => {
  await node.pods('a', 'b');
  pristine = await node.state();
});
afterEach(async () => {
  await node.machine.run(`ip netns del a; ip netns del b; ip netns del c; /opt/cni/bin/sriov gc
    for pf in ${pfs.join(' ')}; do ip link set $pf up; done`);
});

/** `make test` tries a few of a table. */
const some = <T>(count: number, all: readonly T[]) => (isSoak ? [...all] : sample(all, count, seeded(seed)));
const ipam = hostLocal('10.5.0.0/24');
const far = '10.5.0.200';
const far6 = 'fd05::200';
const bothOf = (v4: string, v6: string) => ({
  type: 'static',
  addresses: [{ address: `${v4}/24` }, { address: `${v6}/64` }],
});
const farIpam = bothOf(far, far6);
/** VF 0 of each: without that the one that was unused for longest comes first. */
const bond = (extra: object = {}) => ({ pfs: [`${pfPci(0)}#0`, `${pfPci(1)}#0`], ...extra });
const restored = async () => expect(difference(pristine, await node.state())).toBe('');
const claims = () => node.sh('ls /var/lib/cni/sriov/claims | grep -v 0000:03 || true');

interface ShownBond {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly operstate: string;
  readonly master?: string;
  readonly parentdev?: string;
  readonly flags: readonly string[];
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Record<string, unknown> };
}

const linksOf = async (pod: string) =>
  ((await node.links(pod)) as unknown as ShownBond[]).filter(({ ifname }) => ifname !== 'lo');
const bondOf = async (pod: string, ifname = 'net1') => {
  const found = (await linksOf(pod)).find((link) => link.ifname === ifname);
  if (found?.linkinfo?.info_kind !== 'bond') throw new Error(`${ifname} is no bond`);
  return found;
};
const activeOf = async (pod: string) => (await bondOf(pod)).linkinfo?.info_data?.['active_slave'];
/** igbvf looks for its link some time after it was brought up. */
const carrier = async (pod: string) =>
  expect.poll(async () => (await bondOf(pod)).operstate, { timeout: 20_000 }).toBe('UP');
const slave = (card: number, index: number) =>
  vfPci(card, index).replace('0000:', 'v').replace(':', '').replace('.', '_');

describe('a bond of two PFs', () => {
  const config = { bond: bond({ primary: pfPci(0) }), vlan: 0, spoofchk: 'on', mtu: 1400, ipam };

  test('is one interface of the pod, with two VFs below it; DEL gives back both as they were', async () => {
    const result = await node.add('a', config);
    const shown = await linksOf('a');
    const net1 = await bondOf('a');
    expect(net1).toMatchObject({
      mtu: 1400,
      linkinfo: { info_data: { mode: 'active-backup', miimon: 100, fail_over_mac: 'active' } },
    });
    const slaves = shown.filter(({ master }) => master === 'net1');
    expect(slaves).toMatchObject([
      { ifname: slave(0, 0), mtu: 1400, parentdev: vfPci(0, 0) },
      { ifname: slave(1, 0), mtu: 1400, parentdev: vfPci(1, 0) },
    ]);
    expect(shown).toHaveLength(3);
    const sandbox = '/run/netns/a';
    expect(result.interfaces).toEqual([
      ...slaves.map(({ ifname, address, parentdev }) => ({
        name: ifname,
        mac: address,
        mtu: 1400,
        sandbox,
        pciID: parentdev,
      })),
      { name: 'net1', mac: net1.address, mtu: 1400, sandbox },
    ]);
    expect(result.ips?.map(({ interface: index }) => index)).toEqual([2]);
    await carrier('a');
    await expect.poll(() => activeOf('a'), { timeout: 20_000 }).toBe(slave(0, 0));
    expect(await node.ping('a', far)).toBe(3);
    for (const card of [0, 1]) expect(await node.vf(card, 0)).toMatchObject({ spoofchk: true });
    expect(await node.cni('CHECK', 'a', { ...config, prevResult: result })).toMatchObject({ code: 0 });
    await node.del('a', config);
    expect(await linksOf('a')).toEqual([]);
    await restored();
  });

  test('survives the loss of the active uplink, and of the other one after that: packets go on', async () => {
    const noPrimary = { ...config, bond: bond() };
    const prevResult = await node.add('a', noPrimary);
    await carrier('a');
    const first = (await activeOf('a')) === slave(0, 0) ? 0 : 1;
    for (const card of [first, 1 - first]) {
      const other = 1 - card;
      // 10 s of pings; the uplink goes in the midst of them.
      const { stdout } = await node.machine
        .run(`ip netns exec a ping -n -c 50 -i 0.2 -W 1 ${far} > /run/ping & sleep 2
        ip link set ${pfs[card]} down; wait; tail -3 /run/ping`);
      const received = Number(/(\d+) received/.exec(stdout)?.[1]);
      console.log(`card ${card} lost: ${received} of 50 pings answered`);
      expect(await activeOf('a')).toBe(slave(other, 0));
      expect((await bondOf('a')).address).toBe((await node.link(slave(other, 0), 'a')).address);
      expect(received).toBeGreaterThan(25);
      expect(await node.ping('a', far)).toBe(3);
      // The bond has another MAC than the result says: that is what it is for.
      expect(await node.cni('CHECK', 'a', { ...noPrimary, prevResult })).toMatchObject({ code: 0 });
      await node.sh(`ip link set ${pfs[card]} up`);
      await expect
        .poll(async () => (await node.link(slave(card, 0), 'a')).operstate, { timeout: 20_000 })
        .toBe('UP');
    }
    await node.del('a', config);
    await restored();
  });

  test('with "mac" and IPv6: both VFs have it by their PFs, and the bond keeps it', async () => {
    const mac = '02:00:00:00:b0:01';
    const all = { ...config, mac, bond: bond(), ipam: bothOf('10.5.0.9', 'fd05::9') };
    await node.add('a', all);
    await carrier('a');
    for (const card of [0, 1]) expect(await node.vf(card, 0)).toMatchObject({ address: mac });
    expect((await linksOf('a')).map(({ address }) => address)).toEqual([mac, mac, mac]);
    // An IPv6 address is probed for up to two seconds once the bond has carrier.
    for (const target of [far, far6])
      await expect.poll(() => node.ping('a', target), { timeout: 30_000 }).toBe(3);
    const card = (await activeOf('a')) === slave(0, 0) ? 0 : 1;
    await node.sh(`ip link set ${pfs[card]} down`);
    await expect.poll(() => activeOf('a'), { timeout: 20_000 }).toBe(slave(1 - card, 0));
    expect((await bondOf('a')).address).toBe(mac);
    for (const target of [far, far6]) expect(await node.ping('a', target)).toBeGreaterThan(0);
    await node.sh(`ip link set ${pfs[card]} up`);
    await node.del('a', all);
    await restored();
  });

  test.each(
    some(1, [
      ['DEL', () => node.del('a', config)],
      ['DEL without a namespace', () => node.del('a', config, { netns: '' })],
      ['sriov gc', () => node.sh('/opt/cni/bin/sriov gc >&2')],
      [
        'the next pod that wants them',
        async () => {
          const devices = [vfPci(1, 0), vfPci(0, 0)];
          await node.add('b', { ...config, bond: { devices } });
          await node.del('b', config);
        },
      ],
    ]),
  )('of a pod that is gone is given back by %s', async (_, recovery) => {
    await node.add('a', config);
    await node.sh('ip netns del a');
    await recovery();
    await restored();
  });

  test('a repeated ADD is refused, and after a DEL it is made again', async () => {
    await node.add('a', config);
    const before = await node.state();
    const { answer } = await node.cni('ADD', 'a', config);
    expect(answer).toMatchObject({ code: 4 });
    expect(difference(before, await node.state())).toBe('');
    await node.del('a', config);
    await node.add('a', config);
    await node.del('a', config);
    await restored();
  });

  test('GC gives back both, list and inspect show both, check shows what would be taken', async () => {
    const text = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'sriov', ...config });
    const dry = await node.sh(`/opt/cni/bin/sriov check - <<< '${text}'`);
    expect(dry.match(/takes/g)).toHaveLength(2);
    await node.add('a', config);
    const rows = JSON.parse(await node.sh('/opt/cni/bin/sriov list --json')) as {
      vfs: { pci: string; owner?: { ifname?: string } }[];
    };
    const ours = JSON.stringify(rows);
    for (const card of [0, 1]) expect(ours).toContain(vfPci(card, 0));
    const inspected = await node.sh('/opt/cni/bin/sriov inspect a');
    expect(inspected).toContain(`net1, together with ${vfPci(1, 0)}`);
    expect(inspected).toContain(`net1, together with ${vfPci(0, 0)}`);
    const gc = {
      cniVersion: '1.1.0',
      name: 'net',
      'cni.dev/valid-attachments': [{ containerID: 'far', ifname: 'net1' }],
    };
    expect(await node.cni('GC', 'a', gc)).toMatchObject({ code: 0 });
    await restored();
  });
});

describe('an ADD that fails', () => {
  test.each([
    ['at its first VF', 0],
    ['at its second VF', 1],
  ])('%s, whose PF refuses a setting: both are as they were', async (_, vf) => {
    const config = { bond: { devices: [vfPci(0, 0), vfPci(1, 1)] }, vlan: 5, mac: '02:00:00:00:b0:04', ipam };
    await refuse(node, { call: 'set_vf_vlan', vf, errno: 22 });
    const { answer } = await node.cni('ADD', 'a', config);
    expect(answer).toMatchObject({ code: 2 });
    expect(answer?.msg).toContain(`Cannot set "vlan": 5 on VF ${vf}`);
    expect(await allowAll(node)).toBeGreaterThan(0);
    expect(await linksOf('a')).toEqual([]);
    expect(await claims()).toBe('');
    await restored();
  });

  test('at the IPAM plugin, when all is attached: both are as they were', async () => {
    const { answer } = await node.cni('ADD', 'a', {
      bond: bond(),
      vlan: 7,
      ipam: { type: 'static', addresses: [{ address: 'none' }] },
    });
    expect(answer?.code).toBeGreaterThan(0);
    expect(await linksOf('a')).toEqual([]);
    expect(await claims()).toBe('');
    await restored();
  });

  test.each(
    some(2, [
      [
        'one PF and one MAC',
        { bond: { pfs: [pfPci(0)] }, mac: '02:00:00:00:b0:02' },
        7,
        'both VFs of the bond are of one PF',
      ],
      ['a PF without a free VF', { bond: { pfs: [pfPci(0), `${pfPci(1)}#6`] } }, 100, 'no VF of'],
      ['one PF with one VF', { bond: { pfs: [`${pfPci(0)}#1`] } }, 11, 'is free'],
      ['a name that is taken', { bond: bond() }, 4, 'is taken'],
      ["a slave's name that is taken", { bond: { devices: [vfPci(0, 2), vfPci(1, 2)] } }, 4, 'is taken'],
      [
        'a setting that one of the two cannot have',
        { bond: { devices: [vfPci(0, 0), '0000:04:00.0'] }, vlan: 5 },
        2,
        'Cannot set "vlan"',
      ],
    ]),
  )('is refused before anything changes for %s', async (what, config, code, message) => {
    if (what === 'a name that is taken') await node.sh('ip -n a link add net1 type dummy');
    if (what.startsWith("a slave's")) await node.sh(`ip -n a link add ${slave(1, 2)} type dummy`);
    const { answer } = await node.cni('ADD', 'a', config);
    expect(answer).toMatchObject({ code, msg: expect.stringContaining(message) as string });
    await restored();
  });
});

test('two VFs of one PF, and a VF with a NIC that has no PF', async () => {
  for (const source of [{ pfs: [pfPci(0)] }, { devices: ['0000:04:00.0', vfPci(0, 1)] }]) {
    const config = { bond: source, ipam };
    const result = await node.add('a', config);
    expect(result.interfaces).toHaveLength(3);
    await carrier('a');
    expect(await node.ping('a', far)).toBe(3);
    await node.del('a', config);
    await restored();
  }
});

test('two ADDs at once of one attachment: one of them makes it at most, and takes nothing of the other', async () => {
  const [one, other] = [0, 1].map((n) => ({ bond: { devices: [vfPci(0, n), vfPci(1, n)] }, ipam }));
  const outcomes = await Promise.all([node.cni('ADD', 'a', one ?? {}), node.cni('ADD', 'a', other ?? {})]);
  const codes = outcomes.map(({ code, answer }) => (code === 0 ? 0 : answer?.code));
  expect(codes.filter((code) => code === 0).length).toBeLessThanOrEqual(1);
  expect(codes.filter((code) => ![0, 4, 11].includes(code ?? 0))).toEqual([]);
  if (codes.includes(0))
    expect((await linksOf('a')).filter(({ master }) => master === 'net1')).toHaveLength(2);
  await node.del('a', {});
  expect(await linksOf('a')).toEqual([]);
  await restored();
});

test('two ADDs at once that want the same two PFs, named in opposite order: no deadlock, no VF twice', async () => {
  await node.pods('c');
  const one = { bond: { pfs: [`${pfPci(0)}#0`, `${pfPci(1)}#0`] }, ipam };
  const other = { bond: { pfs: [`${pfPci(1)}#0`, `${pfPci(0)}#0`] }, ipam };
  const free = { bond: { pfs: [pfPci(1), pfPci(0)] }, ipam };
  const begin = Date.now();
  const outcomes = await Promise.all([
    node.cni('ADD', 'a', one),
    node.cni('ADD', 'b', other),
    node.cni('ADD', 'c', free),
  ]);
  console.log(`three ADDs: ${Date.now() - begin} ms`);
  const codes = outcomes.map(({ code, answer }) => (code === 0 ? 0 : answer?.code));
  expect(codes.filter((code) => code === 0).length).toBeGreaterThanOrEqual(1);
  expect(codes.filter((code) => code !== 0 && code !== 11)).toEqual([]);
  const taken = outcomes.flatMap(({ code, answer }) =>
    code === 0 ? (answer?.interfaces ?? []).flatMap(({ pciID }) => pciID ?? []) : [],
  );
  expect(new Set(taken).size).toBe(taken.length);
  expect((await claims()).split('\n').sort()).toEqual(taken.map((pci) => `${pci}.json`).sort());
  for (const pod of ['a', 'b', 'c']) await node.del(pod, {});
  await node.sh('ip netns del c');
  await restored();

  const [x, y] = [vfPci(0, 0), vfPci(1, 0)];
  const named = await Promise.all([
    node.cni('ADD', 'a', { bond: { devices: [x, y] }, ipam }),
    node.cni('ADD', 'b', { bond: { devices: [y, x] }, ipam }),
  ]);
  expect(named.map(({ code }) => code).sort()).toEqual([0, 1]);
  expect(named.find(({ code }) => code === 1)?.answer).toMatchObject({ code: 11 });
  for (const pod of ['a', 'b']) await node.del(pod, {});
  await restored();
});

describe('whatever a pod does to its bond, both VFs come back', () => {
  const config = { bond: bond(), vlan: 100, mac: '02:00:00:00:b0:03', ipam };
  const [x, y] = [slave(0, 0), slave(1, 0)];
  test.each(
    some(2, [
      ['renames everything', `link set ${x} name slave0; link set ${y} name slave1; link set net1 name mine`],
      ['deletes the bond', 'link del net1'],
      [
        'deletes it and uses a VF by itself',
        `link del net1; link set ${x} up promisc on; address add 10.5.0.77/24 dev ${x}`,
      ],
      ['takes a VF out', `link set ${y} nomaster; link set ${y} name net1x up`],
      [
        'makes a bond of its own of them',
        `link del net1; link add mine type bond mode balance-rr; link set ${x} down; link set ${x} master mine; link set mine up`,
      ],
      [
        'puts a VF into a bridge',
        `link set ${y} nomaster; link add br0 type bridge; link set ${y} master br0 up`,
      ],
      [
        'adds a link of its own',
        'link add own type dummy; link set own master net1; link set net1 type bond active_slave own',
      ],
      ['gives the bond another MAC', 'link set net1 address 02:00:00:00:66:66 mtu 1300 promisc on'],
      ['makes another interface of that name', `link set net1 name gone; link add net1 type bond`],
    ]),
  )('%s', async (_, commands) => {
    await node.add('a', config);
    await node.sh(
      commands
        .split('; ')
        .map((command) => `ip -n a ${command}`)
        .join('\n'),
    );
    await node.del('a', config);
    expect((await linksOf('a')).filter(({ parentdev }) => parentdev)).toEqual([]);
    await restored();
  });

  test('makes the VFs of one PF anew: packets go on over the other one, and DEL gives that back', async () => {
    const free = { bond: bond(), promisc: true, trust: 'on', ipam };
    await node.add('a', free);
    await carrier('a');
    expect((await bondOf('a')).flags).toContain('PROMISC');
    const numVfs = `/sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`;
    await node.sh(`echo 0 > ${numVfs}`);
    await expect.poll(() => activeOf('a'), { timeout: 20_000 }).toBe(x);
    expect(await node.ping('a', far)).toBeGreaterThan(0);
    await node.sh(`echo 3 > ${numVfs}; udevadm settle 2>/dev/null || sleep 1`);
    await node.del('a', free);
    expect(await linksOf('a')).toEqual([]);
    expect(await claims()).toBe('');
    // The VFs of card 1 are others now, at the same addresses: nothing of the pod is on them.
    for (const card of [0, 1]) {
      const { links } = await node.state();
      const names = links.flatMap(({ ifname, parentdev = '' }) =>
        parentdev.startsWith(`0000:0${card + 1}:`) ? [ifname] : [],
      );
      expect(names.filter((name) => name.startsWith('v0'))).toEqual([]);
      expect(names).toHaveLength(4);
      expect(await node.vf(card, 0)).toMatchObject({ trust: false });
    }
  });

  test('CHECK tells of a bond that is not whole', async () => {
    const prevResult = await node.add('a', config);
    const check = async () => (await node.cni('CHECK', 'a', { ...config, prevResult })).answer as CniAnswer;
    await node.sh(`ip -n a link set ${y} nomaster`);
    expect(await check()).toMatchObject({
      code: 103,
      msg: expect.stringContaining('it is not in the bond "net1"') as string,
    });
    await node.sh('ip -n a link set net1 mtu 1300');
    expect((await check()).msg).toContain('bond: MTU is 1300');
    await node.sh('ip -n a address flush dev net1');
    expect((await check()).msg).toContain('address 10.5.0.');
    const claim = `/var/lib/cni/sriov/claims/${vfPci(1, 0)}.json`;
    await node.sh(`mv ${claim} /run/claim`);
    expect((await check()).msg).toContain(`VF ${vfPci(1, 0)}, the other one of its bond, is not attached`);
    await node.sh(`mv /run/claim ${claim}`);
    await node.del('a', config);
    await restored();
  });
});
