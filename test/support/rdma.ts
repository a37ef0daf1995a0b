import type { LabOptions } from '../../lab/lab.ts';
import { TestNode } from './node.ts';

/** Gives each VF that the node has, and will have, an RDMA device (lab/soft-roce.ts), and the node the mode. */
export async function loadSoftRoce(node: TestNode, mode: 'exclusive' | 'shared'): Promise<void> {
  await node.sh(`
    modprobe -a ib_uverbs ib_umad udp_tunnel ip6_udp_tunnel crc32_generic
    rdma system set netns ${mode}
    insmod /lab/rdma_rxe.ko
    # A work queue makes them; VFs of one card in no certain order.
    vfs=$(ls -d /sys/bus/pci/devices/*/physfn | wc -l)
    for i in {1..100}; do (( $(ls /sys/class/infiniband_mad/ | grep -c umad) == vfs )) && exit 0; sleep 0.1; done
    ls /sys/class/infiniband_mad; exit 1`);
}

/** Starts a node whose VFs have RDMA devices. */
export async function startRdmaNode(
  mode: 'exclusive' | 'shared',
  options: LabOptions & { vfs: number },
): Promise<TestNode> {
  const node = await TestNode.start({ ...options, disks: ['rdma', ...(options.disks ?? [])] });
  await loadSoftRoce(node, mode);
  return node;
}

/** Names of the RDMA devices of a namespace, as rdma(8) shows them: the outside eye. */
export async function rdmaDevices(node: TestNode, netns?: string): Promise<string[]> {
  const text = await node.sh(`${netns === undefined ? '' : `ip netns exec ${netns}`} rdma -j dev`);
  return (JSON.parse(text) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
}

/** What a VF has of RDMA on a node where no pod has it: the device's name, and its files. */
export async function rdmaOf(node: TestNode, pci: string): Promise<{ name: string; files: string[] }> {
  const text = await node.sh(
    `cd /sys/bus/pci/devices/${pci}; ls infiniband; ls infiniband_verbs infiniband_mad | grep -v :`,
  );
  const [name = '', ...files] = text.split('\n').filter(Boolean);
  return { name, files: files.sort() };
}
