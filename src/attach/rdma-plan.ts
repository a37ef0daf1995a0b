import { isExclusive, listRdma, RdmaNetlink } from '../kernel/nldev.ts';
import { findProgram } from '../kernel/process.ts';
import { rdmaFiles, rdmaNames, type RdmaRecord } from '../rdma/rdma-device.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, type Vf, vfName } from '../vf/inventory.ts';
import { Failure } from './failure.ts';
import type { Wish } from './wish.ts';

/**
 * What a VF's RDMA device is like before the first change, and whether it goes into the pod: where each network namespace has RDMA devices of
 * its own it does, or nobody in the pod could use it. Where they are shared, everybody sees it, and it stays.
 * @param userspace the driver through which a process is to get the VF: none of them makes RDMA devices
 * @returns undefined if the VF has none
 * @throws Failure `bad wish`; NotUsable if one is asked for and there is none
 */
export async function planRdma(
  host: Host,
  { rdma: wanted, pluginPath = '' }: Wish,
  vf: Vf,
  userspace: string | undefined,
): Promise<RdmaRecord | undefined> {
  if (wanted && userspace !== undefined) {
    throw new Failure(
      'bad wish',
      `Invalid network configuration: "rdma": true needs the kernel's driver, and a VF on ${userspace} has no RDMA device`,
    );
  }
  const [name, ...more] = rdmaNames(host.sys, vf.pci);
  const files = rdmaFiles(host.sys, vf.pci);
  if (wanted && (name === undefined || more.length > 0)) throw new NotUsable(unusable(vf, name, more, files));
  if (name === undefined) return undefined;
  if (more.length > 0) {
    host.log.warning('it has several RDMA devices, which stay on the host', { vf: vf.pci, rdma: name });
    return undefined;
  }
  const record = { name, index: undefined, files, moves: false };
  if (wanted === false || userspace !== undefined) return record;
  using rdma = new RdmaNetlink(host.netns);
  if (!(await isExclusive(rdma))) return record;
  // rdma-cni's binary. It fails if it does not find the device on the host.
  const other = wanted ? undefined : findProgram('rdma', pluginPath);
  if (other !== undefined) {
    host.log.info('RDMA device left to the plugin that moves it', { vf: vf.pci, rdma: name, plugin: other });
    return record;
  }
  const index = (await listRdma(rdma)).find((device) => device.name === name)?.index;
  return { ...record, index, moves: true };
}

function unusable(
  vf: Vf,
  name: string | undefined,
  more: readonly string[],
  files: readonly string[],
): string {
  if (name !== undefined)
    return `"rdma": true takes a VF with one RDMA device, and ${vfName(vf)} has ${[name, ...more].join(', ')}`;
  const why =
    files.length > 0
      ? 'it is in another network namespace'
      : `its driver ${vf.driver ?? '(none is bound)'} shows none; the kernel's part for RDMA may not be loaded (mlx5_ib, irdma, bnxt_re)`;
  return `${vfName(vf)} has no RDMA device on the host, which "rdma": true asks for: ${why}`;
}
