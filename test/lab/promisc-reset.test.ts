import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 4 });
  await node.sh('modprobe vfio-pci');
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());

const ipam = hostLocal('10.3.0.0/24');
const modesOf = async (pod: string) => {
  const { flags, promiscuity } = await node.link('net1', pod);
  return { flags: flags.filter((flag) => flag === 'PROMISC' || flag === 'ALLMULTI').sort(), promiscuity };
};
const end = async (pod: string) => {
  await node.sh(`ip netns del ${pod}`);
  expect(difference(pristine, await node.state())).toBe('');
};

describe('promisc and allmulti', () => {
  test.each<[object, string[]]>([
    [{ promisc: true, allmulti: true }, ['ALLMULTI', 'PROMISC']],
    [{ promisc: true }, ['PROMISC']],
    [{ allmulti: true }, ['ALLMULTI']],
    [{ promisc: false, allmulti: false }, []],
    [{}, []],
  ])('%j: as asked in the pod, off after it, whatever was on before', async (modes, flags) => {
    const hostIfname = (await node.links()).find(({ parentdev }) => parentdev === vfPci(0, 0))?.ifname;
    await node.pods('a');
    const config = { deviceID: vfPci(0, 0), trust: 'on', ipam, ...modes };
    const result = await node.add('a', config);
    expect(await modesOf('a')).toEqual({ flags, promiscuity: flags.includes('PROMISC') ? 1 : 0 });
    expect((await node.cni('CHECK', 'a', { ...config, prevResult: result })).code).toBe(0);
    // A pod that turns everything on itself leaves nothing on.
    await node.sh('ip -n a link set net1 promisc on allmulticast on');
    await node.del('a', config);
    expect((await node.link(hostIfname ?? '')).flags).not.toContain('PROMISC');
    await end('a');
  });

  test('a pod that dies leaves nothing on', async () => {
    await node.pods('b');
    await node.add('b', { deviceID: vfPci(0, 1), promisc: true, allmulti: true });
    await node.sh('ip netns del b; sriov gc >&2');
    expect(difference(pristine, await node.state())).toBe('');
  });

  test('CHECK tells what the pod has changed, and nothing where nobody asked', async () => {
    await node.pods('c');
    const config = { deviceID: vfPci(0, 0), promisc: true, allmulti: false };
    const prevResult = await node.add('c', config);
    await node.sh('ip -n c link set net1 promisc off allmulticast on');
    const { answer } = await node.cni('CHECK', 'c', { ...config, prevResult });
    expect(answer).toMatchObject({ code: 103 });
    expect(answer?.msg).toContain('"promisc" is false, was true; "allmulti" is true, was false');
    await node.del('c', config);
    const silent = { deviceID: vfPci(0, 0) };
    const result = await node.add('c', silent);
    await node.sh('ip -n c link set net1 promisc on');
    expect((await node.cni('CHECK', 'c', { ...silent, prevResult: result })).code).toBe(0);
    await node.del('c', silent);
    await end('c');
  });

  test('the tuning plugin behind it has the last word on the same keys, and everything is off afterwards', async () => {
    await node.pods('d');
    const prevResult = await node.add('d', { deviceID: vfPci(0, 0), promisc: true });
    const tuning = {
      cniVersion: '1.0.0',
      name: 'net',
      type: 'tuning',
      promisc: true,
      allmulti: true,
      prevResult,
    };
    const env =
      'CNI_COMMAND=ADD CNI_CONTAINERID=d CNI_NETNS=/run/netns/d CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin';
    const result = JSON.parse(
      await node.sh(`${env} /opt/cni/bin/tuning <<< '${JSON.stringify(tuning)}'`),
    ) as object;
    expect((await modesOf('d')).flags).toEqual(['ALLMULTI', 'PROMISC']);
    const check = await node.cni('CHECK', 'd', { deviceID: vfPci(0, 0), promisc: true, prevResult: result });
    expect(check.code).toBe(0);
    await node.del('d', {});
    await end('d');
  });

  test('a VF without trust: the log says that its PF may go on filtering', async () => {
    await node.pods('e');
    const config = { deviceID: vfPci(0, 0), trust: 'off', promisc: true };
    const { stderr, code } = await node.cni('ADD', 'e', config);
    expect([code, stderr]).toEqual([0, expect.stringContaining('need \\"trust\\": \\"on\\"')]);
    await node.del('e', config);
    await end('e');
  });

  test('a VF for a process has no interface that could be promiscuous: refused before anything changes', async () => {
    await node.pods('f');
    const { answer } = await node.cni('ADD', 'f', { deviceID: vfPci(0, 0), dpdk: true, promisc: true });
    expect(answer).toMatchObject({ code: 7 });
    expect(answer?.msg).toContain('"promisc": true needs an interface');
    await end('f');
  });
});

describe('reset', () => {
  const config = {
    deviceID: vfPci(0, 2),
    vlan: 100,
    mac: '02:00:00:00:e0:01',
    spoofchk: 'off',
    trust: 'on',
    max_tx_rate: 200,
    mtu: 1400,
    reset: true,
    ipam,
  };
  const sysfs = `/sys/bus/pci/devices/${config.deviceID}`;

  const trace = 'strace -f -e trace=open,openat -o /run/trace.reset';
  /** Which files of sysfs the traced call and its children have written to, in order. */
  const written = async () => {
    const text = await node.sh('cat /run/trace.reset');
    return [...text.matchAll(/"[^"]*\/(driver\/unbind|reset|bind)", O_WRONLY/g)].map(([, file]) => file);
  };

  test('DEL unbinds the driver, resets, brings the PF back to what it had, and binds; ADD does none of it', async () => {
    await node.pods('r');
    // What nobody asks for must survive a reset, too.
    const pf = (await node.links()).find(({ parentdev }) => parentdev === pfPci(0))?.ifname;
    await node.sh(`ip link set ${pf} vf 2 max_tx_rate 300`);
    const before = await node.state();
    const rest = { ...config, max_tx_rate: undefined, mac: undefined };
    expect((await node.cni('ADD', 'r', rest, undefined, trace)).code).toBe(0);
    expect(await written()).toEqual([]);
    const shown = await node.vf(0, 2);
    const outcome = await node.cni('DEL', 'r', rest, undefined, trace);
    expect(outcome).toMatchObject({ code: 0 });
    expect(await written()).toEqual(['driver/unbind', 'reset', 'bind']);
    expect(shown).toMatchObject({ rate: { max_tx: 300 }, vlan_list: [{ vlan: 100 }] });
    expect(difference(before, await node.state())).toBe('');
    await node.sh(`ip link set ${pf} vf 2 max_tx_rate 0`);
    await end('r');
  });

  test('the next pod has the VF with traffic', async () => {
    await node.pods('s', 't');
    await node.add('s', config);
    await node.del('s', config);
    await node.add('s', config);
    await node.add('t', { ...config, deviceID: vfPci(0, 3), mac: '02:00:00:00:e0:02' });
    const target = (await node.addresses('net1', 't')).find(({ scope }) => scope === 'global')?.local ?? '';
    expect(await node.ping('s', target)).toBe(3);
    await node.del('s', config);
    await node.del('t', config);
    await node.sh('ip netns del t');
    await end('s');
  });

  test('of a dead pod, by gc; of a failed ADD; of a VF that dpdk has bound', async () => {
    await node.pods('u');
    await node.add('u', config);
    await node.sh('ip netns del u; sriov gc >&2');
    expect(difference(pristine, await node.state())).toBe('');
    await node.pods('u');
    const failing = { ...config, vlanProto: '802.1ad' }; // igb refuses it when other settings are made already
    expect((await node.cni('ADD', 'u', failing)).code).toBe(1);
    expect(difference(pristine, await node.state())).toBe('');
    const dpdk = { deviceID: config.deviceID, vlan: 100, dpdk: true, reset: true };
    await node.add('u', dpdk);
    await node.del('u', dpdk);
    await end('u');
  });

  test('a reset that the kernel refuses: all else is restored, nobody gets the VF, and a later DEL ends it', async () => {
    await node.pods('v', 'w');
    await node.add('v', config);
    // Without a method the kernel refuses the write (ENOTTY).
    await node.sh(`echo > ${sysfs}/reset_method`);
    const { answer, code } = await node.cni('DEL', 'v', config);
    expect([code, answer?.code]).toEqual([1, 102]);
    expect(answer?.msg).toContain('Cannot reset');
    expect((await node.vf(0, 2)).vlan_list).toEqual([{}]);
    const next = await node.cni('ADD', 'w', config);
    expect(next.code).toBe(1);
    await node.sh(`echo default > ${sysfs}/reset_method`);
    await node.del('v', config);
    await node.sh('ip netns del w');
    await end('v');
  });

  test('a reset that does not end: DEL does, nobody gets the VF, and a later DEL goes on', async () => {
    await node.pods('y', 'z');
    await node.add('y', config);
    // Whoever opens it for writing waits for a reader, as the write waits for a device that does not answer.
    await node.sh(`mkfifo /run/reset; mount --bind /run/reset ${sysfs}/reset`);
    const { answer, code } = await node.cni('DEL', 'y', config);
    expect([code, answer?.code]).toEqual([1, 11]);
    expect(answer?.msg).toContain('is being reset: that has not ended');
    expect((await node.cni('ADD', 'z', config)).code).toBe(1);
    await node.sh(`umount ${sysfs}/reset; rm /run/reset`);
    await node.del('y', config);
    await node.sh('ip netns del z');
    await end('y');
  });

  test('a VF that cannot be reset is refused before anything changes', async () => {
    await node.pods('x');
    await node.sh(`echo > ${sysfs}/reset_method`);
    const { answer } = await node.cni('ADD', 'x', config);
    expect(answer).toMatchObject({ code: 2 });
    expect(answer?.msg).toContain('Cannot keep "reset": true');
    await node.sh(`echo default > ${sysfs}/reset_method`);
    await end('x');
  });
});
