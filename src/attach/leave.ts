import { IFF_UP } from '../kernel/link-message.ts';
import { setLink } from '../kernel/link.ts';
import { driverOverride, setDriverOverride, unbindWithin } from '../kernel/pci-driver.ts';
import type { FileLock } from '../kernel/files.ts';
import { isUserspaceDriver } from '../dpdk/driver.ts';
import { type Claim, isUserspace } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { type Vf, vfName } from '../vf/inventory.ts';
import { awaitOnHost, findInPod, findOnHost, moveToHost } from '../vf/netdev.ts';
import { ifnameThere, placeOf } from '../vf/owner.ts';
import { describeHolders, holdersOf } from '../vf/users.ts';
import { StillHeld } from './failure.ts';
import { openPodOf } from './pod.ts';
import type { Caller } from './wish.ts';

/** Takes the netdev down and back to the host. @throws StillHeld if it is in neither namespace */
export async function leavePod(host: Host, claim: Claim, vf: Vf, { netns }: Caller): Promise<void> {
  const { netdev } = claim.original;
  if (!netdev || vf.driver === undefined) return;
  if (claim.dpdk) refuseHeld(host, vf);
  using pod = openPodOf(claim, netns);
  // First: with the VF's RDMA device alone the pod could still send on its network.
  if (claim.rdma?.moves)
    await (await import('./rdma-transfer.ts')).takeBackRdma(host, claim, claim.rdma, vf, pod);
  const inPod = pod && (await findInPod(pod, vf.pci, ifnameThere(claim)));
  if (pod && inPod) {
    const fields = { vf: vf.pci, hostIfname: netdev.ifname };
    const name = await host.log.change('netdev moved back to the host', fields, () =>
      moveToHost(host, pod, vf, inPod, netdev),
    );
    if (name !== netdev.ifname)
      host.log.warning('its host name is taken', {
        vf: vf.pci,
        hostIfname: netdev.ifname,
        newHostIfname: name,
      });
    return;
  }
  // A dying namespace gives its links back some 100 ms after its name is gone.
  const onHost = (await findOnHost(host, vf.pci)) ?? (await awaitOnHost(host, vf.pci));
  if (!onHost) {
    throw new StillHeld(
      `The netdev of ${vfName(vf)} is neither in "${placeOf(claim)}" nor on the host: something still holds its namespace`,
    );
  }
  if (onHost.flags & IFF_UP) {
    await setLink(host.netns.rtnl, `take ${onHost.ifname} down`, onHost.ifindex, { clearFlags: IFF_UP });
  }
}

/** @throws StillHeld if a process drives the VF: it would go on, on the untagged network */
function refuseHeld(host: Host, vf: Vf): void {
  const holders = holdersOf(host.sys, vf.pci);
  if (holders.length === 0) return;
  throw new StillHeld(
    `${vfName(vf)} is still in use: ${describeHolders(holders)} has it open; it is given back when that process has ended`,
  );
}

/** How long the kernel may wait for whoever has the VF open although no process of /proc shows it. */
const unbindTimeoutMs = 5_000;

/** Takes the VF from its driver. @throws StillHeld if the driver does not let it go in time */
export async function unbindVf(
  host: Host,
  vf: Vf,
  driver: string,
  what: string,
  lock: FileLock,
): Promise<void> {
  const isUnbound = await host.log.change(what, { vf: vf.pci, driver }, () =>
    unbindWithin(host.sys, vf.pci, unbindTimeoutMs, lock.fd),
  );
  if (!isUnbound)
    throw new StillHeld(
      `${vfName(vf)} is still in use: its driver ${driver} does not let it go within ${unbindTimeoutMs} ms; ` +
        'it is given back when whoever has it open has ended',
    );
}

/**
 * Whether the VF must be taken from a userspace driver: the one that we bound it to, or one that nobody asked us for. Kata takes the netdev
 * away from the container and hands the VF to its virtual machine, and leaves it so if that goes wrong.
 */
export function isOnUserspaceDriver(claim: Claim, { driver }: Vf): boolean {
  return isUserspace(claim) || (isUserspaceDriver(driver) && driver !== claim.original.driver);
}

/** Takes the VF from the userspace driver that it was bound to for its owner. @throws StillHeld */
export async function leaveUserspace(host: Host, claim: Claim, vf: Vf, lock: FileLock): Promise<void> {
  const { sys } = host;
  const { pci } = vf;
  const driver = isUserspace(claim) ? claim.dpdk?.driver : vf.driver;
  if (vf.driver === driver) refuseHeld(host, vf);
  if (driver === claim.original.driver) return; // it was on it before
  if (driver !== undefined && vf.driver === driver)
    await unbindVf(host, vf, driver, 'VF taken from its userspace driver', lock);
  if (driverOverride(sys, pci) !== undefined) setDriverOverride(sys, pci, undefined);
}
