import type { Phases } from '../kernel/log.ts';
import { nowMs } from '../kernel/clock.ts';
import type { EndpointClaim } from '../vf/claim.ts';
import { writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, vfName } from '../vf/inventory.ts';
import { dressForLoan, lentName } from '../vf/loan.ts';
import { makeReady, recordOf, rollBack, takeDevice } from './ready.ts';
import type { Caller, Wish } from './wish.ts';

/** One loan as a front door orders it. */
export interface LoanOrder {
  readonly owner: EndpointClaim['owner'];
  readonly wish: Wish;
  readonly join: EndpointClaim['join'];
  readonly caller: Caller;
}

/**
 * Makes a VF ready on the host, under a name of its own, for somebody else to move it into a container: attach() without what comes after the
 * device is ready. Undone by release(), as that is, and by the same function where it fails.
 * @returns the MAC that it goes by, as far as the kernel knows one
 */
export async function lend(
  host: Host,
  { owner, wish, join, caller }: LoanOrder,
  phases: Phases,
): Promise<string | undefined> {
  using taken = await takeDevice(host, wish, owner.endpointId, undefined, caller, phases);
  const { vf, lock, plan } = taken;
  if (plan.rdma?.moves)
    throw new NotUsable(
      `"rdma": true needs RDMA devices that all network namespaces share (rdma system set netns shared): Docker moves nothing but ` +
        `the netdev, and in exclusive mode the container could not use the RDMA device of ${vfName(vf)}`,
    );
  const claim: EndpointClaim = {
    version: 2,
    phase: 'adding',
    phaseMs: nowMs(),
    owner,
    hostIfname: lentName(vf.pci),
    join,
    ...recordOf(host, wish, taken),
  };
  writeClaim(host, claim, true);
  phases.end('claim');
  try {
    const netdev = await makeReady(host, taken, claim, phases);
    if (netdev) {
      const fields = { vf: vf.pci, ifname: netdev.ifname, hostIfname: claim.hostIfname, mtu: wish.mtu };
      await host.log.change('netdev made ready for its container', fields, () =>
        dressForLoan(host, netdev, claim.hostIfname, wish),
      );
    }
    if (netdev && claim.rdma)
      (await import('./rdma-transfer.ts')).refuseRenumbered(host, vf, claim.rdma, wish);
    phases.end('device');
    writeClaim(host, { ...claim, phase: 'lent', phaseMs: nowMs(), times: phases.ms }, false);
    return netdev?.mac ?? plan.wanted.mac;
  } catch (error) {
    throw await rollBack(host, claim, lock, caller, error);
  }
}
