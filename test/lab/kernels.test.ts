import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type KernelName, kernels } from '../../lab/kernels.ts';
import { difference, hostLocal, TestNode, vfPci } from '../support/node.ts';
import { isSoak } from '../support/random.ts';

/** The oldest and the newest; the usual one has all the other tests. */
const chosen: readonly KernelName[] = isSoak ? (Object.keys(kernels) as KernelName[]) : ['5.10', 'newest'];

const versions: Readonly<Record<KernelName, RegExp>> = {
  '5.10': /^5\.10\./,
  '6.1': /^6\.1\./,
  '6.12': /^6\.12\./,
  newest: /^(6\.1[3-9]|[7-9])\./,
};

describe.each(chosen)('Linux %s', (kernel) => {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ kernel, pfs: 1, vfs: 3 });
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const config = (index: number) => ({
    deviceID: vfPci(0, index),
    vlan: 100,
    vlanQoS: 3,
    mac: `02:00:00:00:0a:0${index}`,
    spoofchk: 'off',
    trust: 'on',
    max_tx_rate: 200 + index,
    mtu: 1400,
    ipam: hostLocal('10.1.0.0/24'),
  });
  const expectPristine = async () => {
    expect(difference(pristine, await node.state())).toBe('');
    expect(node.machine.console()).not.toMatch(/WARNING:|BUG:|Oops|Call Trace/);
  };

  test('is the one that was asked for, and tells what it should', async () => {
    expect(await node.sh('uname -r')).toMatch(versions[kernel]);
    // Without this the program asks ethtool, without that it compares inode numbers: both ways are run.
    const telling = (await node.sh('ip -j -d link show')).includes('parentdev');
    expect(telling).toBe(kernel !== '5.10');
  });

  test('two pods: every setting, a ping, CHECK; one VF is given back, the other one found', async () => {
    await node.pods('a', 'b', 'c');
    const prevResult = await node.add('a', config(0));
    await node.add('b', config(1));
    for (const [pod, index] of [
      ['a', 0],
      ['b', 1],
    ] as const) {
      // prettier-ignore
      expect(await node.vf(0, index)).toMatchObject({
        address: `02:00:00:00:0a:0${index}`,
        vlan_list: [{ vlan: 100, qos: 3 }],
        rate: { max_tx: 200 + index },
        spoofchk: false,
        trust: true,
      });
      expect(await node.link('net1', pod)).toMatchObject({
        address: `02:00:00:00:0a:0${index}`,
        mtu: 1400,
        parentdev: vfPci(0, index),
      });
    }
    expect(await node.ping('a', '10.1.0.3')).toBe(3);
    expect((await node.cni('CHECK', 'a', { ...config(0), prevResult })).answer).toBeUndefined();
    await node.sh('ip -n a link set net1 mtu 1300');
    expect((await node.cni('CHECK', 'a', { ...config(0), prevResult })).answer).toMatchObject({
      code: 103,
      msg: expect.stringContaining('1300') as string,
    });
    await node.del('a', config(0));

    // This pod dies and nobody calls DEL: who wants the VF next finds it as it was.
    await node.sh('ip netns del b');
    await node.add('c', { deviceID: vfPci(0, 1) });
    expect((await node.vf(0, 1)).vlan_list[0]?.vlan ?? 0).toBe(0);
    await node.del('c', {});
    await node.sh('ip netns del a; ip netns del c');
    await expectPristine();
  });

  test('a pod without settings, and one that dies, after which an operator cleans up', async () => {
    await node.pods('d', 'e');
    const ipam = hostLocal('10.2.0.0/24');
    await node.add('d', { deviceID: vfPci(0, 0), ipam });
    await node.add('e', { deviceID: vfPci(0, 2), ipam });
    expect(await node.ping('d', '10.2.0.3')).toBe(3);
    await node.sh('ip netns del d; ip netns del e; sleep 0.5; /opt/cni/bin/sriov gc');
    await expectPristine();
  });

  test('two netdevs of dead pods of which one has the name of the other', async () => {
    await node.pods('f', 'g');
    const nameOf = (index: number) => node.sh(`ls /sys/bus/pci/devices/${vfPci(0, index)}/net`);
    const name = await nameOf(0);
    await node.add('f', config(0));
    await node.add('g', config(1));
    await node.sh(`
      ip netns del f; ip netns del g
      for vf in ${vfPci(0, 0)} ${vfPci(0, 1)}; do
        until ls /sys/bus/pci/devices/$vf/net/* > /dev/null 2>&1; do sleep 0.1; done
      done`);
    await node.sh(`ip link set ${await nameOf(1)} name ${name}`);
    const late = node.sh('sleep 1').then(() => node.del('g', config(1)));
    await Promise.all([node.del('f', config(0)), late]);
    await expectPristine();
  });
});
