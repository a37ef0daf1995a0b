import { type UserspaceDriver, userspaceDriverFor } from '../dpdk/driver.ts';
import { requireIommu } from '../dpdk/iommu.ts';
import type { Link } from '../kernel/link-message.ts';
import { rdmaNames, type RdmaRecord } from '../rdma/rdma-device.ts';
import { listClaims } from '../vf/claims.ts';
import { describeHolders, holdersOf } from '../vf/users.ts';
import type { Host } from '../vf/host.ts';
import { isNic, isWholePf, NotUsable, type Vf, vfName } from '../vf/inventory.ts';
import { checkMtu, findOnHost } from '../vf/netdev.ts';
import { ownerName } from '../vf/owner.ts';
import { ownerOfSameMac, refuseSwitchdev, warnOfDownPf, warnOfNoTrust } from '../vf/safety.ts';
import { awaitSettings, type VfSettings } from '../vf/settings.ts';
import { Failure } from './failure.ts';
import { refuseUsed, wantedOnNetdev } from './netdev-only.ts';
import { refuseNoReset } from './reset.ts';
import { wantedSettings, type Wish } from './wish.ts';

/** What a VF is like before the first change, and what an ADD will make of it. */
export interface Plan {
  /** With the settings of all its VFs; undefined where no PF programs anything: a PF itself, a NIC, a VF of a PF without such settings. */
  readonly pf: Link | undefined;
  readonly settings: VfSettings;
  /** The VF's netdev; undefined only where userspace is to drive the VF, and no kernel driver does now. */
  readonly link: Link | undefined;
  /** The driver through which a process gets the VF; undefined where its netdev goes into the pod. */
  readonly userspace: UserspaceDriver | undefined;
  /** What to program on the PF, or to set on the netdev. */
  readonly wanted: VfSettings;
  /** The VF's RDMA device, where it has one. */
  readonly rdma: RdmaRecord | undefined;
}

/** Looks at a VF and plans an ADD; changes nothing. @throws NotUsable, Unsupported; KernelError EAGAIN */
export async function makePlan(host: Host, wish: Wish, vf: Vf): Promise<Plan> {
  const userspace = userspaceDriverFor(vf, wish.dpdk);
  const link = await findOnHost(host, vf.pci);
  const mayHaveNone = userspace !== undefined && (vf.driver === undefined || vf.driver === userspace);
  if (!link && !mayHaveNone) throw new NotUsable(noNetdev(vf));
  const mayHaveRdma = wish.rdma || rdmaNames(host.sys, vf.pci).length > 0;
  const rdma = mayHaveRdma
    ? await (await import('./rdma-plan.ts')).planRdma(host, wish, vf, userspace)
    : undefined;
  const bare = { pf: undefined, settings: {}, link, userspace, rdma };
  if (isWholePf(vf)) return { ...bare, wanted: {} };
  if (isNic(vf)) {
    await refuseUsed(host, vf);
    return { ...bare, wanted: wantedOnNetdev(wish, vf, userspace !== undefined) };
  }
  const { pf, settings } = await awaitSettings(host, vf);
  if (!pf.vfs) return { ...bare, wanted: wantedOnNetdev(wish, vf, userspace !== undefined) };
  const asked = wantedSettings(wish, settings);
  const wanted = userspace === undefined ? asked : { ...asked, mac: asked.mac ?? macOf(link, settings) };
  return { pf, link, settings, userspace, wanted, rdma };
}

/**
 * The MAC that a userspace driver shall find: the netdev's, else what the PF shows. It is always programmed, because igb and others show
 * one that they forget when the VF is reset, and the process would see a random one.
 */
function macOf(link: Link | undefined, settings: VfSettings): string | undefined {
  return link?.mac ?? (settings.mac === '00:00:00:00:00:00' ? undefined : settings.mac);
}

export function noNetdev(vf: Vf): string {
  const why =
    vf.driver === undefined
      ? 'no driver is bound to it'
      : `its driver ${vf.driver} shows none, or it is in another network namespace`;
  return `${vfName(vf)} has no netdev on the host: ${why}`;
}

/**
 * Refuses, before the first change, what could not work.
 * @param asker ownerId() of who asks
 * @param ipam the IPAM plugin that is to be asked
 * @throws Failure; NotUsable, Unsupported, KernelError
 */
export async function refuseUnfit(
  host: Host,
  wish: Wish,
  asker: string,
  ipam: string | undefined,
  vf: Vf,
  { pf, link, settings, userspace, wanted }: Plan,
): Promise<void> {
  if (wish.mtu !== undefined && link) checkMtu(link, wish.mtu);
  if (wish.reset) refuseNoReset(host, vf);
  if (userspace !== undefined) refuseUnfitForUserspace(host, wish, ipam, vf, userspace);
  if (!pf) return;
  await refuseSwitchdev(host, vf, pf);
  if (wish.modes?.promisc || wish.modes?.allmulti) warnOfNoTrust(host, vf, wanted.trust ?? settings.trust);
  warnOfDownPf(host, vf, pf);
  const other = wanted.mac === undefined ? undefined : ownerOfSameMac(host, vf, pf, wanted, asker);
  if (other === undefined) return;
  throw new Failure(
    'busy',
    `MAC ${wanted.mac} is in use on another VF of the same PF and VLAN, by ${ownerName(other)}`,
  );
}

/** Refuses what no process could use, and a VF that one has already. */
function refuseUnfitForUserspace(
  host: Host,
  { modes }: Wish,
  ipam: string | undefined,
  vf: Vf,
  userspace: UserspaceDriver,
): void {
  const mode = modes?.promisc ? 'promisc' : modes?.allmulti ? 'allmulti' : undefined;
  if (mode !== undefined)
    throw new Failure(
      'bad wish',
      `Invalid network configuration: "${mode}": true needs an interface, and a VF on a userspace driver has none`,
    );
  if (ipam === 'dhcp') {
    throw new Failure(
      'bad wish',
      'Invalid network configuration: "ipam": "dhcp" needs an interface, and a VF on a userspace driver has none',
    );
  }
  if (userspace !== vf.driver) {
    const claims = listClaims(host);
    if (userspace === 'vfio-pci') requireIommu(host.sys, vf, (pci) => claims.includes(pci));
    return;
  }
  const holders = holdersOf(host.sys, vf.pci);
  if (holders.length === 0) return;
  throw new Failure('busy', `${vfName(vf)} is in use: ${describeHolders(holders)} has it open`);
}
