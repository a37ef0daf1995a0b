import { Errno, isErrno } from '../kernel/errno.ts';
import type { Netns } from '../kernel/netns.ts';
import { renumbered, type RdmaRecord } from '../rdma/rdma-device.ts';
import { moveRdmaIntoPod, moveRdmaToHost } from '../rdma/rdma-move.ts';
import type { Claim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, type Vf, vfName } from '../vf/inventory.ts';
import { placeOf } from '../vf/owner.ts';
import { Unsupported } from '../vf/settings.ts';
import { StillHeld } from './failure.ts';
import type { Wish } from './wish.ts';

/**
 * Gives the pod the RDMA device, before the netdev: the link that IP over InfiniBand makes of it is born where the device is. Where it stays
 * on the host, there is only to be looked whether it is what it was.
 * @returns what to remember of it
 * @throws NotUsable, KernelError
 */
export async function handOverRdma(
  host: Host,
  pod: Netns,
  vf: Vf,
  record: RdmaRecord,
  wish: Wish,
): Promise<RdmaRecord> {
  const now = record.moves ? await give(host, pod, vf, record, wish) : record;
  refuseRenumbered(host, vf, record, wish);
  return now;
}

async function give(
  host: Host,
  pod: Netns,
  vf: Vf,
  record: RdmaRecord,
  { rdma: isAskedFor }: Wish,
): Promise<RdmaRecord> {
  try {
    return { ...record, index: await moveRdmaIntoPod(host, pod, vf, record) };
  } catch (error) {
    if (!isErrno(error, Errno.EOPNOTSUPP)) throw error;
    const why = `the driver of the RDMA device ${record.name} of ${vfName(vf)} cannot have it moved into a pod`;
    if (isAskedFor) throw new Unsupported(`Cannot serve "rdma": true: ${why}`);
    host.log.warning(`${why}: it stays on the host`, { vf: vf.pci });
    return { ...record, moves: false };
  }
}

/** A container that was given /dev/infiniband/uverbsN would have another VF's, which the kernel does not let it open. @throws NotUsable */
export function refuseRenumbered(host: Host, vf: Vf, record: RdmaRecord, wish: Wish): void {
  const changed = renumbered(host.sys, vf.pci, record);
  if (changed === undefined) return;
  const what = `the device files of ${vfName(vf)} in /dev/infiniband have other numbers: ${changed}`;
  if (wish.rdma)
    throw new NotUsable(`${what}; a container that was given the old ones must be made anew to get the new`);
  host.log.warning(what, { vf: vf.pci });
}

/** Takes the RDMA device back out of the pod. @throws StillHeld if it is neither there nor on the host */
export async function takeBackRdma(
  host: Host,
  claim: Claim,
  record: RdmaRecord,
  vf: Vf,
  pod: Netns | undefined,
): Promise<void> {
  if (await moveRdmaToHost(host, pod, vf.pci, record)) return;
  throw new StillHeld(
    `The RDMA device of ${vfName(vf)} is neither in "${placeOf(claim)}" nor on the host: something still holds its namespace`,
  );
}
