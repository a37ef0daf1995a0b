import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseExample } from '../support/examples.ts';
import { difference, hostLocal, type TestNode, vfPci } from '../support/node.ts';
import { isSoak } from '../support/random.ts';
import { rdmaDevices, rdmaOf, startRdmaNode } from '../support/rdma.ts';

const vfs = 4;
const indices = Array.from({ length: vfs }, (_, index) => index);
const config = (index: number, extra: object = {}) => ({
  deviceID: vfPci(0, index),
  ipam: hostLocal('10.1.0.0/24'),
  ...extra,
});
const withMac = (index: number, extra: object = {}) =>
  config(index, { mac: `02:00:00:00:d0:0${index}`, vlan: 100 + index, ...extra });

let node: TestNode;
let pristine: unknown;
/** Of VF 0 to 3, as they are before anybody attaches them. */
let devices: { name: string; files: string[] }[];
/** The VFs in the order of their files' numbers. */
let byNumber: number[];
const nameOf = (index: number) => devices[index]?.name ?? '';

beforeAll(async () => {
  node = await startRdmaNode('exclusive', { pfs: 1, vfs });
  devices = await Promise.all(indices.map((index) => rdmaOf(node, vfPci(0, index))));
  const lastFile = (index: number) => devices[index]?.files.at(-1) ?? '';
  byNumber = [...indices].sort((a, b) => lastFile(a).localeCompare(lastFile(b)));
  await node.pods('first');
  await node.add('first', config(0)); // the first ADD of a node makes folders
  await node.del('first', config(0));
  await node.sh('ip netns del first');
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());

const tool = (args: string) => node.machine.run(`/opt/cni/bin/sriov ${args}`);
const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');
/** Files of a VF's device, wherever that is. */
const filesOf = async (index: number) =>
  (
    await node.sh(
      `cd /sys/bus/pci/devices/${vfPci(0, index)}; ls infiniband_verbs infiniband_mad | grep -v : | grep .`,
    )
  )
    .split('\n')
    .sort();
const removePod = (pod: string) => node.machine.run(`ip netns del ${pod}`);
/** The VF's RDMA device is gone, until its driver is bound anew. */
const unplug = (index: number) => node.sh(`rdma link del ${nameOf(index)}`);
/** Devices get the lowest free numbers, so all go, and come in the order in which they came first. */
const replug = () =>
  node.sh(`
    for dev in /sys/class/infiniband/*; do rdma link del \${dev##*/}; done
    ${byNumber.map((i) => `rdma link add ${nameOf(i)} type rxe netdev $(ls /sys/bus/pci/devices/${vfPci(0, i)}/net)`).join('\n')}`);

describe('in exclusive mode', () => {
  beforeEach(() => node.pods('pod'));
  afterEach(async () => {
    await node.machine.run('ip netns del pod; sleep 0.5; /opt/cni/bin/sriov gc');
  });

  test('the RDMA device is in the pod with the netdev, and comes back', async () => {
    const file = '/var/run/k8s.cni.cncf.io/devinfo/dp/rdma.json';
    const conf = config(1, { rdma: true, runtimeConfig: { CNIDeviceInfoFile: file } });
    const prevResult = await node.add('pod', conf);
    expect(await rdmaDevices(node, 'pod')).toEqual([nameOf(1)]);
    expect(await rdmaDevices(node)).not.toContain(nameOf(1));
    expect(await filesOf(1)).toEqual(devices[1]?.files);
    const [link] = JSON.parse(await node.sh('ip netns exec pod rdma -j link')) as { netdev: string }[];
    expect(link?.netdev).toBe('net1');
    expect(JSON.parse(await node.sh(`cat ${file}`))).toMatchObject({ pci: { 'rdma-device': nameOf(1) } });
    expect((await node.cni('CHECK', 'pod', { ...conf, prevResult })).answer).toBeUndefined();

    const listed = JSON.parse((await tool('list --json')).stdout) as { pci: string; rdma?: object }[];
    expect(listed.find(({ pci }) => pci === vfPci(0, 1))?.rdma).toEqual({
      name: nameOf(1),
      files: devices[1]?.files,
      isOnHost: false,
    });
    expect((await tool('list')).stdout).toMatch(new RegExp(`${vfPci(0, 1)} .* net1 +${nameOf(1)} `));
    expect((await tool(`inspect ${vfPci(0, 1)}`)).stdout).toMatch(
      new RegExp(`RDMA +${nameOf(1)}, umad\\d, uverbs\\d, not on the host`),
    );
    await node.del('pod', conf);
    expect(await rdmaDevices(node, 'pod')).toEqual([]);
    await expectPristine();
  });

  test('conf-examples/rdma.conf', async () => {
    const file = 'conf-examples/rdma.conf';
    const { plugins } = parseExample(file, readFileSync(file, 'utf8'));
    const conf = { ...plugins[0], deviceID: vfPci(0, 2) };
    const prevResult = await node.add('pod', conf);
    expect(await rdmaDevices(node, 'pod')).toEqual([nameOf(2)]);
    expect((await node.vf(0, 2)).vlan_list[0]?.vlan).toBe(100);
    expect((await node.cni('CHECK', 'pod', { ...conf, prevResult })).answer).toBeUndefined();
    await node.del('pod', conf);
    await expectPristine();
  });

  test('without the key, too; and not with "rdma": false', async () => {
    await node.add('pod', config(0));
    expect(await rdmaDevices(node, 'pod')).toEqual([nameOf(0)]);
    await node.del('pod', config(0));
    await node.add('pod', config(0, { rdma: false }));
    expect(await rdmaDevices(node, 'pod')).toEqual([]);
    expect(await rdmaDevices(node)).toContain(nameOf(0));
    await node.del('pod', config(0, { rdma: false }));
    await expectPristine();
  });

  test('where rdma-cni is there to move it, it is left to that one, unless it is asked for', async () => {
    await node.sh(
      'mkdir -p /opt/rdma-cni; install /dev/null /opt/rdma-cni/rdma; chmod +x /opt/rdma-cni/rdma',
    );
    const env = { CNI_PATH: '/opt/cni/bin:/opt/rdma-cni' };
    const { stderr } = await node.cni('ADD', 'pod', config(0), { env });
    expect(stderr).toMatch(/RDMA device left to the plugin that moves it.*\/opt\/rdma-cni\/rdma/);
    expect(await rdmaDevices(node, 'pod')).toEqual([]);
    await node.del('pod', config(0));
    await node.add('pod', config(0, { rdma: true }), { env });
    expect(await rdmaDevices(node, 'pod')).toEqual([nameOf(0)]);
    await node.del('pod', config(0));
    await expectPristine();
  });

  const endings = {
    DEL: () => node.del('pod', withMac(2)),
    'the death of the pod, and DEL': async () => {
      await removePod('pod');
      await node.del('pod', withMac(2), { netns: '' });
    },
    'the death of the pod, and gc': async () => {
      await removePod('pod');
      expect((await tool('gc')).code).toBe(0);
    },
    'the death of the pod, and the next ADD': async () => {
      await removePod('pod');
      await node.pods('next');
      await node.add('next', withMac(2));
      expect(await rdmaDevices(node, 'next')).toEqual([nameOf(2)]);
      await node.del('next', withMac(2));
      await removePod('next');
    },
  };

  test.each(Object.entries(endings))(
    'a MAC that needs the driver anew, a new name in the pod, then %s: as before',
    async (_, end) => {
      await node.add('pod', withMac(2));
      expect((await node.link('net1', 'pod')).address).toBe('02:00:00:00:d0:02');
      expect(await rdmaDevices(node, 'pod')).toEqual([nameOf(2)]);
      expect(await filesOf(2)).toEqual(devices[2]?.files);
      await node.sh(`ip netns exec pod rdma dev set ${nameOf(2)} name evil`);
      expect(await rdmaDevices(node, 'pod')).toEqual(['evil']);
      await end();
      await expectPristine();
    },
  );

  test("a name that a pod has given to its own is that pod's until it ends", async () => {
    await node.pods('thief');
    await node.add('pod', config(0));
    await node.add('thief', config(1));
    await node.sh(`ip netns exec pod rdma dev set ${nameOf(0)} name mine
      ip netns exec thief rdma dev set ${nameOf(1)} name ${nameOf(0)}`);
    const { stderr } = await node.cni('DEL', 'pod', config(0));
    expect(stderr).toMatch(/the name of its RDMA device is taken/);
    await node.del('thief', config(1));
    await removePod('thief');
    await node.add('pod', config(0, { rdma: true }));
    await node.del('pod', config(0));
    await node.sh(`rdma dev set mine name ${nameOf(0)}`);
    await expectPristine();
  });

  test('several at once, each with its driver anew: nobody gets the files of another', async () => {
    const pods = indices.map((index) => `many${index}`);
    await node.pods(...pods);
    for (let round = 0; round < (isSoak ? 8 : 1); round++) {
      await Promise.all(pods.map((pod, index) => node.add(pod, withMac(index, { rdma: true }))));
      for (const [index, pod] of pods.entries()) {
        expect(await rdmaDevices(node, pod)).toEqual([nameOf(index)]);
        expect(await filesOf(index)).toEqual(devices[index]?.files);
      }
      await Promise.all(pods.map((pod, index) => node.del(pod, withMac(index))));
      await expectPristine();
    }
    await node.sh(pods.map((pod) => `ip netns del ${pod}`).join('\n'));
  });

  test('CHECK misses it', async () => {
    const prevResult = await node.add('pod', config(0));
    const check = async () => (await node.cni('CHECK', 'pod', { ...config(0), prevResult })).answer;
    await node.sh(`ip netns exec pod rdma dev set ${nameOf(0)} name other`);
    expect(await check()).toMatchObject({
      code: 103,
      msg: expect.stringContaining(`RDMA device is other, was ${nameOf(0)}`) as string,
    });
    await node.sh(
      `ip netns attach host 1; ip netns exec pod rdma dev set other netns host; ip netns del host`,
    );
    expect(await rdmaDevices(node)).toContain('other');
    expect(await check()).toMatchObject({
      code: 103,
      msg: expect.stringContaining(`its RDMA device ${nameOf(0)} is not in the pod's namespace`) as string,
    });
    await node.del('pod', config(0));
    await expectPristine();
  });

  test('as long as something holds it elsewhere, nothing is restored', async () => {
    await node.add('pod', withMac(3));
    await node.pods('nested');
    await node.sh(`ip netns exec pod rdma dev set ${nameOf(3)} netns nested`);
    const { answer } = await node.cni('DEL', 'pod', withMac(3));
    expect(answer).toMatchObject({
      code: 11,
      msg: expect.stringMatching(/The RDMA device of VF 3 .* is neither in .* nor on the host/) as string,
    });
    expect((await node.vf(0, 3)).vlan_list[0]?.vlan).toBe(103);
    await removePod('nested');
    await node.del('pod', withMac(3));
    await expectPristine();
  });

  test('a process that has it open keeps nothing', async () => {
    await node.add('pod', config(0));
    const uverbs = devices[0]?.files.find((file) => file.startsWith('uverbs')) ?? '';
    await node.sh(`ip netns exec pod bash -c 'exec sleep 1000 < /dev/infiniband/${uverbs}' > /dev/null 2>&1 & echo $! > /run/user.pid
      for i in {1..50}; do [[ $(readlink /proc/$(cat /run/user.pid)/fd/0) == /dev/infiniband/* ]] && exit; sleep 0.1; done; exit 1`);
    await node.del('pod', config(0));
    await expectPristine();
    await node.sh('kill $(cat /run/user.pid)');
  });

  test('DPDK takes it away, and DEL brings it back', async () => {
    await node.add('pod', config(0, { dpdk: true }));
    expect(await rdmaDevices(node)).not.toContain(nameOf(0));
    await node.del('pod', config(0));
    await expectPristine();
    const { answer } = await node.cni('ADD', 'pod', config(0, { dpdk: true, rdma: true }));
    expect(answer).toMatchObject({ code: 7, msg: expect.stringContaining('"rdma": true needs') as string });
  });

  describe('a VF without one', () => {
    let bare = 0;
    let other = 0;
    beforeAll(async () => {
      // The one whose number nobody else gets.
      [other = 0, , , bare = 0] = byNumber;
      await unplug(bare);
    });
    afterAll(replug);

    test('is refused where one is asked for, before the first change', async () => {
      const before = await node.state();
      const { answer } = await node.cni('ADD', 'pod', withMac(bare, { rdma: true }));
      expect(answer).toMatchObject({
        code: 100,
        msg: expect.stringContaining('has no RDMA device on the host, which "rdma": true asks for') as string,
      });
      expect(difference(before, await node.state())).toBe('');
      const pool = { pf: 'eth0', vf: bare, rdma: true };
      expect((await node.cni('ADD', 'pod', pool)).answer).toMatchObject({
        code: 100,
        msg: 'No VF of eth0 has an RDMA device on the host, which "rdma": true asks for',
      });
    });

    test('is attached where none is', async () => {
      const before = await node.state();
      await node.add('pod', withMac(bare));
      await node.del('pod', withMac(bare));
      // Its driver was bound anew, and with it came one.
      expect(difference(before, await node.state())).toMatch(/infiniband/);
      await node.sh(`rdma link del $(ls /sys/bus/pci/devices/${vfPci(0, bare)}/infiniband)`);
    });

    test('is passed over in a pool', async () => {
      for (let round = 0; round < 2; round++) {
        const pool = { pf: `eth0#${bare},${other}`, rdma: true };
        expect((await node.add('pod', pool)).interfaces?.[0]?.pciID).toBe(vfPci(0, other));
        await node.del('pod', pool);
      }
    });
  });

  test('a number that changes is told, and refused where a container counts on it', async () => {
    const [first = 0, , , last = 0] = byNumber;
    await unplug(first);
    const { answer } = await node.cni('ADD', 'pod', config(last, { rdma: true }));
    expect(answer).toMatchObject({
      code: 100,
      msg: expect.stringMatching(/have other numbers: umad3, uverbs3 are umad0, uverbs0 now/) as string,
    });
    expect(await rdmaDevices(node, 'pod')).toEqual([]);
    await replug();
    await unplug(first);
    const { code, stderr } = await node.cni('ADD', 'pod', config(last));
    expect(code).toBe(0);
    expect(stderr).toMatch(/have other numbers/);
    await node.del('pod', config(last));
    await replug();
    await expectPristine();
  });
});

describe('in shared mode', () => {
  beforeAll(async () => {
    await node.sh('ip -all netns del; sleep 1; rdma system set netns shared');
    await node.pods('pod');
  });
  afterAll(() => removePod('pod'));

  test('nothing moves, and everybody sees it', async () => {
    const conf = withMac(1, { rdma: true });
    const prevResult = await node.add('pod', conf);
    expect(await rdmaDevices(node)).toContain(nameOf(1));
    expect(await rdmaDevices(node, 'pod')).toEqual(await rdmaDevices(node));
    expect(await filesOf(1)).toEqual(devices[1]?.files);
    expect((await node.cni('CHECK', 'pod', { ...conf, prevResult })).answer).toBeUndefined();
    await node.del('pod', conf);
    await expectPristine();
  });

  test('a VF without one is refused all the same', async () => {
    await unplug(0);
    const { answer } = await node.cni('ADD', 'pod', config(0, { rdma: true }));
    expect(answer).toMatchObject({ code: 100 });
    await replug();
    await expectPristine();
  });
});

test("the kernel's log has no warning", () =>
  expect(node.machine.console()).not.toMatch(/WARNING:|Oops|BUG:/));
