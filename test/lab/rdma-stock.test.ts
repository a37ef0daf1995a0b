import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestProbePath, makeGuestProbe, probeValue } from '../support/guest-probe.ts';
import { TestNode, vfPci } from '../support/node.ts';
import { rdmaDevices } from '../support/rdma.ts';

// Soft-RoCE as the newest kernel has it can be moved, which no other driver here can unchanged. It belongs to no PCI function, so to no VF:
// our netlink for RDMA is called by a program of its own, and judged by rdma(8).
const host = '/proc/1/ns/net';
const pod = '/run/netns/pod';
let node: TestNode;
const workFolder = mkdtempSync(`${tmpdir()}/guest-probe-`);

beforeAll(async () => {
  const probe = await makeGuestProbe(workFolder);
  node = await TestNode.start({ kernel: 'newest', pfs: 1, vfs: 1, files: { [guestProbePath]: probe } });
  await node.sh(`
    modprobe rdma_rxe
    rdma system set netns exclusive
    rdma link add rxe0 type rxe netdev $(ls /sys/bus/pci/devices/${vfPci(0, 0)}/net)
    ip netns add pod`);
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
  rmSync(workFolder, { recursive: true });
});

test('the stock driver moves by our netlink: into a pod, renamed there, back, and back from a dead one', async () => {
  const { machine } = node;
  expect(await probeValue(machine, 'isExclusive', host)).toBe(true);
  expect(await probeValue(machine, 'listRdma', pod)).toEqual([]);
  const [device, ...others] = (await probeValue(machine, 'listRdma', host)) ?? [];
  expect([device?.name, others]).toEqual(['rxe0', []]);

  await probeValue(machine, 'moveRdma', host, 'rxe0', pod);
  expect([await rdmaDevices(node), await rdmaDevices(node, 'pod')]).toEqual([[], ['rxe0']]);
  await probeValue(machine, 'renameRdma', pod, 'rxe0', 'mine');
  expect(await probeValue(machine, 'listRdma', pod)).toEqual([{ index: device?.index, name: 'mine' }]);
  await probeValue(machine, 'moveRdma', pod, 'mine', host);
  expect([await rdmaDevices(node), await rdmaDevices(node, 'pod')]).toEqual([['mine'], []]);

  await probeValue(machine, 'moveRdma', host, 'mine', pod);
  await node.sh(
    'ip netns del pod; for i in {1..50}; do rdma dev | grep -q mine && exit; sleep 0.1; done; exit 1',
  );
  expect(await probeValue(machine, 'listRdma', host)).toEqual([{ index: device?.index, name: 'mine' }]);
  expect(machine.console()).not.toMatch(/WARNING:|BUG:|Oops|Call Trace/);
});

test('it is no RDMA device of the VF whose netdev it has', async () => {
  await node.pods('other');
  expect((await node.cni('ADD', 'other', { deviceID: vfPci(0, 0), rdma: true })).answer).toMatchObject({
    code: 100,
    msg: expect.stringContaining('has no RDMA device on the host, which "rdma": true asks for') as string,
  });
  expect(await rdmaDevices(node)).toEqual(['mine']);
});
