import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

describe('pools', () => {
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

  test('the one unused for longest comes first; a selector, an index and a driver narrow the choice', async () => {
    await node.pods('k');
    const taken = async (given: object) => {
      const result = await node.add('k', { pf: pfPci(0), ...given });
      await node.del('k', {});
      return result.interfaces?.[0]?.pciID;
    };
    const all = new Set([await taken({}), await taken({}), await taken({})]);
    expect(all.size).toBe(3);
    expect(await taken({ vf: 2 })).toBe(vfPci(0, 2));
    expect(await taken({ pf: `${pf}#1` })).toBe(vfPci(0, 1));
    expect(await taken({ pf: [`${pf}#0`, pfPci(1)], driver: 'igbvf' })).toMatch(/^0000:0[12]:10/);
    expect((await node.cni('ADD', 'k', { pf, driver: 'vfio-pci' })).answer?.details).toContain(
      'its driver is igbvf, not vfio-pci',
    );
    const twice = [`${pf}#0`, `${pf}#1`];
    expect((await node.cni('ADD', 'k', { pf: twice, driver: 'vfio-pci' })).answer?.msg).toBe(
      `No VF of ${pf} is free: all 2 are in use`,
    );
    expect((await node.cni('ADD', 'k', { pf, vf: 6 })).answer).toMatchObject({ code: 100 });
    await expectPristine();
  });

  test('what the host uses is never taken', async () => {
    await node.pods('l');
    const [v0 = '', v1 = '', v2 = ''] = await Promise.all(
      [0, 1, 2].map((i) => node.sh(`ls /sys/bus/pci/devices/${vfPci(0, i)}/net`)),
    );
    await node.sh(`ip link add br0 type bridge; ip link set ${v0} master br0
      ip addr add 192.0.2.1/24 dev ${v1}
      ip link add link ${v2} name v2.5 type vlan id 5`);
    const { answer } = await node.cni('ADD', 'l', { pf });
    expect(answer).toMatchObject({ code: 11 });
    expect(answer?.details).toContain('it is enslaved to br0');
    expect(answer?.details).toContain('it has an IP address on the host');
    expect(answer?.details).toContain('v2.5 is built on it');
    await node.sh(
      `ip link del br0; ip addr flush dev ${v1}; ip link del v2.5; ip link set ${v1} up; sleep 2`,
    );
    // Up with nothing but a link-local address is not in use.
    expect((await node.add('l', { pf, vf: 1 })).interfaces?.[0]?.pciID).toBe(vfPci(0, 1));
    await node.del('l', {});
    await expectPristine();
  });

  // A refused ADD is tried again only after seconds.
  test('a VF whose pod is just going is waited for, also where another never comes back', async () => {
    await node.pods('e', 'f', 'g');
    const pool = { pf: [`${pf}#0`, `${pf}#1`] };
    await node.add('e', pool);
    await node.add('f', pool);
    const hold = (pod: string, seconds: number) =>
      `ip netns exec ${pod} sh -c 'touch /run/in-${pod}; exec sleep ${seconds}' > /dev/null 2>&1 & echo $! > /run/${pod}.pid
      until [ -e /run/in-${pod} ]; do sleep 0.02; done; ip netns del ${pod}`;
    await node.sh(`${hold('e', 1000)}; ${hold('f', 0.8)}`);
    const { interfaces } = await node.add('g', pool);
    expect(interfaces?.[0]?.pciID).toMatch(/^0000:01:10/);
    await node.sh('kill $(cat /run/e.pid)');
    for (const pod of ['e', 'f', 'g']) await node.del(pod, {});
    await node.sh('ip netns del g');
    await expectPristine();
  });

  test("the ancestors' configurations work unchanged", async () => {
    await node.pods('m');
    const intel = {
      cniVersion: '0.2.0',
      if0: pf,
      if0name: 'net0',
      vlan: 100,
      ipam: hostLocal('10.55.206.0/26', { gateway: '10.55.206.1' }),
    };
    expect(Object.keys(await node.add('m', intel))).toContain('ip4');
    expect(await node.link('net0', 'm')).toMatchObject({
      parentdev: expect.stringContaining('0000:01:10') as string,
    });
    await node.del('m', intel);
    const hustcat = { cniVersion: '0.2.0', master: pf, ipam: hostLocal('10.55.206.0/26') };
    await node.add('m', hustcat, { args: 'VF=2;VLAN=7;MAC=02:00:00:00:00:77;IP=10.55.206.5' });
    expect(await node.vf(0, 2)).toMatchObject({ address: '02:00:00:00:00:77', vlan_list: [{ vlan: 7 }] });
    await node.del('m', hustcat);
    await expectPristine();
  });

  test('a whole PF can go into a pod, and comes back', async () => {
    await node.pods('n');
    await node.sh(
      `echo 0 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs; ip link set $(ls /sys/bus/pci/devices/${pfPci(1)}/net) down`,
    );
    const before = await node.state();
    const result = await node.add('n', {
      cniVersion: '1.0.0',
      master: await node.sh(`ls /sys/bus/pci/devices/${pfPci(1)}/net`),
      pfOnly: true,
    });
    expect(result.interfaces?.[0]?.pciID).toBe(pfPci(1));
    expect((await node.link('net1', 'n')).parentdev).toBe(pfPci(1));
    await node.del('n', {});
    expect(difference(before, await node.state())).toBe('');
    await node.sh(
      `ip link set $(ls /sys/bus/pci/devices/${pfPci(1)}/net) up; echo 3 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`,
    );
    pristine = await node.state();
  });

  test('a MAC that another pod has on the same VLAN is refused until that is gone', async () => {
    await node.pods('o', 'p');
    const same = { pf, mac: '02:00:00:00:00:88', vlan: 5 };
    await node.add('o', same);
    expect((await node.cni('ADD', 'p', same)).answer).toMatchObject({
      code: 11,
      msg: expect.stringContaining('by container o') as string,
    });
    await node.add('p', { ...same, vlan: 6 });
    await node.del('p', {});
    await node.del('o', {});
    await expectPristine();
  });
});
