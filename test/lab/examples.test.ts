import { afterAll, beforeAll, expect, test } from 'vitest';
import { startDhcpServer } from '../support/dhcp.ts';
import { type Example, examples, parseExample } from '../support/examples.ts';
import {
  type CniAnswer,
  difference,
  pfPci,
  type ShownLink,
  type ShownVf,
  TestNode,
  vfPci,
} from '../support/node.ts';

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 2, vfs: 5, disks: ['runtimes'] });
  await startDhcpServer(node, vfPci(1, 4));
  pristine = await node.state();
});
afterAll(() => node[Symbol.asyncDispose]());

/** The example for this node: its PFs, and for what a device plugin chooses VF 2. */
function onThisNode({ file, text }: Example): Example {
  const { plugins, ...example } = parseExample(
    file,
    text.replaceAll('ens1f0', pfPci(0)).replaceAll('ens1f1', pfPci(1)),
  );
  const choosesItself = (plugin: object) => ['pf', 'if0', 'master', 'bond'].some((key) => key in plugin);
  return {
    ...example,
    plugins: plugins.map((plugin) =>
      plugin['type'] === 'sriov' && !choosesItself(plugin) ? { ...plugin, deviceID: vfPci(0, 2) } : plugin,
    ),
  };
}

/** Calls the plugins of a chain one after the other, each with the result of the one before. */
async function call(
  command: 'ADD' | 'CHECK' | 'DEL',
  pod: string,
  plugins: Example['plugins'],
  result?: CniAnswer,
) {
  let prevResult = result;
  for (const plugin of command === 'DEL' ? [...plugins].reverse() : plugins) {
    const { code, stdout, stderr } = await node.machine.run(`/opt/cni/bin/${plugin['type'] as string}`, {
      stdin: JSON.stringify({ ...plugin, ...(prevResult && { prevResult }) }),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: pod,
        CNI_NETNS: `/run/netns/${pod}`,
        CNI_IFNAME: 'net1',
        CNI_PATH: '/opt/cni/bin',
        // As Kubernetes' runtimes send them.
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0',
      },
    });
    expect({ code, stdout: code === 0 || stdout, stderr: code === 0 || stderr }).toEqual({
      code: 0,
      stdout: true,
      stderr: true,
    });
    if (command === 'ADD') prevResult = JSON.parse(stdout) as CniAnswer;
  }
  return prevResult;
}

/** What the example asks for and what `ip` shows, key by key. */
function asked(plugin: Record<string, unknown>, link: ShownLink, vf: ShownVf) {
  const [tag] = vf.vlan_list;
  const shown: Record<string, unknown> = {
    vlan: tag?.vlan,
    vlanQoS: tag?.qos,
    mac: link.address,
    mtu: link.mtu,
    spoofchk: vf.spoofchk ? 'on' : 'off',
    trust: vf.trust ? 'on' : 'off',
    max_tx_rate: vf.rate.max_tx,
    vf: vf.vf,
    promisc: link.flags.includes('PROMISC'),
    allmulti: link.flags.includes('ALLMULTI'),
  };
  const keys = Object.keys(plugin).filter((key) => key in shown);
  const pick = (values: Record<string, unknown>) => Object.fromEntries(keys.map((key) => [key, values[key]]));
  return [pick(plugin), pick(shown)];
}

// test/lab/dpdk.test.ts, nic.test.ts and rdma.test.ts have the machines for the others.
const runnable = examples.filter(({ file }) => !/^(dpdk|nic|rdma)/.test(file));

test.each(runnable)('conf-examples/$file: ADD, CHECK and DEL', async (example) => {
  const { plugins } = onThisNode(example);
  const [ours] = plugins.filter(({ type }) => type === 'sriov') as [Record<string, unknown>];
  const pod = example.file.replace(/\..*/, '');
  await node.pods(pod);
  const result = await call('ADD', pod, plugins);
  const link = await node.link((ours['if0name'] as string | undefined) ?? 'net1', pod);
  const devices = (await node.links(pod)).flatMap(({ parentdev }) => parentdev ?? []);
  expect(devices).toHaveLength('bond' in ours ? 2 : 1);
  // igbvf looks for its link some time after it was brought up
  await expect
    .poll(async () => (await node.link(link.ifname, pod)).operstate, { timeout: 20_000 })
    .toBe('UP');
  for (const device of devices) {
    const [card, index] = [0, 1]
      .flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((i) => [n, i] as const))
      .find(([n, i]) => vfPci(n, i) === device) as [number, number];
    const [wanted, shown] = asked(ours, link, await node.vf(card, index));
    expect(shown).toEqual(wanted);
  }
  expect((await node.addresses(link.ifname, pod)).filter(({ scope }) => scope === 'global')).not.toEqual([]);
  if (result && result.cniVersion >= '0.4.0') await call('CHECK', pod, plugins, result);
  await call('DEL', pod, plugins, result);
  await node.sh(`ip netns del ${pod}`);
  expect(difference(pristine, await node.state())).toBe('');
});
