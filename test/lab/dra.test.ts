import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  apiProblems,
  attach,
  detach,
  networkData,
  type PreparedDevice,
  type Sandbox,
} from '../support/dra.ts';
import { type CniAnswer, difference, TestNode, vfPci } from '../support/node.ts';

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 3 });
  await node.sh('modprobe vfio-pci; [ -L /var/run ] || { mv /var/run /var/run.old; ln -s /run /var/run; }');
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());

const config = {
  cniVersion: '1.0.0',
  name: 'storage',
  type: 'sriov',
  vlan: 100,
  ipam: {
    type: 'host-local',
    ranges: [[{ subnet: '10.56.0.0/24' }], [{ subnet: 'fd00:56::/64' }]],
    routes: [{ dst: '10.0.0.0/8' }],
  },
};

const device = (index: number, more: Partial<PreparedDevice> = {}): PreparedDevice => ({
  pci: vfPci(0, index),
  ifname: `vfnet${index}`,
  config,
  injects: 'deviceID',
  ...more,
});

let count = 0;
/** A sandbox of a pod: another attempt of the same pod is another sandbox. */
async function run(name: string): Promise<Sandbox> {
  const id = `${(++count).toString(16).padStart(4, '0')}${'ab'.repeat(30)}`;
  const netns = `cni-35d8d636-2700-831a-dcf7-${String(count).padStart(12, '0')}`;
  await node.pods(netns);
  return {
    id,
    namespace: 'shop',
    name,
    uid: `9a4c4f2e-5d0c-4d0e-8a8e-${name}`,
    netns: `/var/run/netns/${netns}`,
  };
}
const nameOf = ({ netns }: Sandbox) => netns.replace(/^.*\//, '');
const end = (sandbox: Sandbox) => node.sh(`ip netns del ${nameOf(sandbox)}`);

function succeeded({
  code,
  answer,
  stderr,
}: {
  code: number;
  answer: CniAnswer | undefined;
  stderr: string;
}): CniAnswer {
  if (code !== 0 || !answer) throw new Error(`ADD failed: ${JSON.stringify(answer)}\n${stderr}`);
  return answer;
}

test.each(['deviceID', 'runtimeConfig'] as const)(
  'a pod with two claims, the device in %s: the result is all that the status of a claim needs',
  async (injects) => {
    const pod = await run('web-0');
    for (const index of [0, 1]) {
      const own = device(index, { injects });
      const result = succeeded(await attach(node, pod, own));
      const data = networkData(result);
      const shown = await node.link(own.ifname, nameOf(pod));
      const addresses = (await node.addresses(own.ifname, nameOf(pod))).filter(
        ({ scope }) => scope === 'global',
      );
      expect(data).toEqual({
        interfaceName: own.ifname,
        hardwareAddress: shown.address,
        ips: addresses.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      });
      expect(data.ips).toHaveLength(2);
      expect(apiProblems(data, result)).toEqual([]);
      expect(result.interfaces).toMatchObject([{ pciID: own.pci, mtu: 1500, sandbox: pod.netns }]);
    }
    for (const index of [1, 0])
      expect(await detach(node, pod, device(index, { injects }))).toMatchObject({
        code: 0,
        answer: undefined,
      });
    await end(pod);
    expect(difference(pristine, await node.state())).toBe('');
  },
);

test("KubeVirt's MAC, which the driver writes into the configuration", async () => {
  const pod = await run('virt-launcher');
  const mac = '02:00:00:00:56:01';
  const result = succeeded(await attach(node, pod, device(0, { config: { ...config, mac } })));
  expect(networkData(result).hardwareAddress).toBe(mac);
  expect(await node.link('vfnet0', nameOf(pod))).toMatchObject({ address: mac });
  expect((await detach(node, pod, device(0, { config: { ...config, mac } }))).code).toBe(0);
  await end(pod);
  expect(difference(pristine, await node.state())).toBe('');
});

test('a VF that the driver has bound to vfio-pci: it has a MAC and a sandbox in the result, and stays on its driver', async () => {
  const bind = (driver: string) =>
    node.sh(`
      cd /sys/bus/pci/devices/${vfPci(0, 2)}
      [ -e driver ] && echo ${vfPci(0, 2)} > driver/unbind
      echo ${driver} > driver_override; echo ${vfPci(0, 2)} > /sys/bus/pci/drivers_probe; echo > driver_override`);
  await bind('vfio-pci');
  const bound = await node.state();
  const pod = await run('dpdk-0');
  const own = device(2, { config: { ...config, ipam: {} } });
  const result = succeeded(await attach(node, pod, own));
  const data = networkData(result);
  expect(data).toEqual({ interfaceName: 'vfnet2', hardwareAddress: (await node.vf(0, 2)).address, ips: [] });
  expect(apiProblems(data, result)).toEqual([]);
  expect(result.interfaces).toMatchObject([{ pciID: own.pci, sandbox: pod.netns }]);
  expect((await node.vf(0, 2)).vlan_list).toMatchObject([{ vlan: 100 }]);
  expect((await detach(node, pod, own)).code).toBe(0);
  expect(difference(bound, await node.state())).toBe('');
  await bind('igbvf');
  await end(pod);
  // Loaded anew, igbvf has another MAC, and perhaps another name.
  pristine = await node.state();
});

test('the sandbox is gone when the driver hears of it, and DEL comes twice', async () => {
  const pod = await run('web-1');
  succeeded(await attach(node, pod, device(0)));
  await end(pod);
  for (let times = 0; times < 2; times++)
    expect(await detach(node, pod, device(0))).toMatchObject({ code: 0, answer: undefined });
  expect(difference(pristine, await node.state())).toBe('');
});

test('the driver was killed in RunPodSandbox, and started again: the same ADD once more changes nothing, a DEL and a new sandbox follow', async () => {
  const first = await run('web-2');
  const before = succeeded(await attach(node, first, device(0)));
  // The ADD went through, but nobody was left to hear it. The claim is still prepared, from the driver's checkpoint.
  const again = await attach(node, first, device(0));
  expect(again).toMatchObject({ code: 1, answer: { code: 4 } });
  expect(again.answer?.msg).toContain('a DEL undoes it');
  const link = await node.link('vfnet0', nameOf(first));
  expect(link).toMatchObject({ address: before.interfaces?.[0]?.mac, parentdev: vfPci(0, 0) });
  expect(link.flags).toContain('UP');
  // The runtime gives up on that sandbox and makes another, for the same pod and claim, before the old one is gone.
  const second = await run('web-2');
  const early = await attach(node, second, device(0));
  expect(early).toMatchObject({ code: 1, answer: { code: 11 } });
  expect(early.answer?.msg).toContain('shop/web-2');
  expect((await detach(node, first, device(0))).code).toBe(0);
  await end(first);
  const result = succeeded(await attach(node, second, device(0)));
  expect(apiProblems(networkData(result), result)).toEqual([]);
  // A DEL of the old sandbox that comes late takes nothing from the new one.
  expect((await detach(node, first, device(0))).code).toBe(0);
  expect(await node.link('vfnet0', nameOf(second))).toMatchObject({ parentdev: vfPci(0, 0) });
  expect((await detach(node, second, device(0))).code).toBe(0);
  await end(second);
  expect(difference(pristine, await node.state())).toBe('');
});

test('the driver was away when the sandbox ended: no DEL ever came, and the next pod gets the VF as it was', async () => {
  const lost = await run('web-3');
  succeeded(
    await attach(node, lost, device(0, { config: { ...config, vlan: 200, mac: '02:00:00:00:56:02' } })),
  );
  await end(lost);
  const next = await run('web-4');
  const result = succeeded(await attach(node, next, device(0)));
  expect(networkData(result).hardwareAddress).not.toBe('02:00:00:00:56:02');
  expect((await node.vf(0, 0)).vlan_list).toMatchObject([{ vlan: 100 }]);
  expect((await detach(node, next, device(0))).code).toBe(0);
  await end(next);
  expect(difference(pristine, await node.state())).toBe('');
});

test('an ADD that fails leaves nothing that a DEL would be needed for, and says why in one line of JSON', async () => {
  const pod = await run('web-5');
  const outcome = await attach(node, pod, device(0, { config: { ...config, vlanProto: '802.1ad' } }));
  expect(outcome).toMatchObject({ code: 1, answer: { code: 2 } });
  expect(difference(pristine, await node.state())).toBe('');
  expect((await detach(node, pod, device(0, { config: { ...config, vlanProto: '802.1ad' } }))).code).toBe(0);
  await end(pod);
  expect(difference(pristine, await node.state())).toBe('');
});
