import { goPluginNetns, type GoAttachment, listGoAttachments, recordedNetns } from '../attach/go-cache.ts';
import { goLeftovers } from '../attach/go-plugin.ts';
import { FileLock, modifiedMs } from '../kernel/files.ts';
import { type HeldNetns, type Holder, holdersOfDevices, listNetns } from '../kernel/holders.ts';
import { IFF_UP, type Link } from '../kernel/link-message.ts';
import { getLinkWithVfs } from '../kernel/link.ts';
import { Netns } from '../kernel/netns.ts';
import { type Claim, UnreadableClaim } from '../vf/claim.ts';
import { listClaims, readClaim } from '../vf/claims.ts';
import { lockPath } from '../vf/vf-lock.ts';
import { describeHolders, holdersOf, userDevices } from '../vf/users.ts';
import type { Host } from '../vf/host.ts';
import {
  isNetdevOf,
  isNic,
  isWholePf,
  listPfs,
  listVfs,
  type Pf,
  type Vf,
  wholePf,
} from '../vf/inventory.ts';
import { findInPod, findOnHost } from '../vf/netdev.ts';
import { listNics, nicUse } from '../vf/nic.ts';
import { ifnameThere, placeOf } from '../vf/owner.ts';
import { hostUse } from '../vf/pool.ts';
import { settingsOf, type VfSettings } from '../vf/settings.ts';
import { showRdma } from '../rdma/rdma-device.ts';
import { standingOf } from '../attach/standing.ts';
import type { Device, State } from './device.ts';
import { goOwner, ownerOf, unknownGoOwner } from './device-owner.ts';

/** Drivers that hand a device to a program, also those that this plugin never binds. */
export function isPassedThrough(driver: string | undefined): boolean {
  return driver !== undefined && /vfio|uio|pci-stub/.test(driver);
}

/** What is looked up once for all devices. */
interface Surroundings {
  readonly goAttachments: readonly GoAttachment[];
  /** Who has which device open. */
  readonly open: ReadonlyMap<string, readonly Holder[]>;
  readonly netnses: () => readonly HeldNetns[];
}

/** Looks at every PF, VF and NIC of the host, and at claims on what is gone. Changes nothing. */
export async function survey(host: Host): Promise<Device[]> {
  const groups = listPfs(host.sys).map((pf) => ({ pf, vfs: listVfs(host.sys, pf) }));
  const nics = listNics(host.sys);
  const everything = [...groups.flatMap(({ pf, vfs }) => [wholePf(pf), ...vfs]), ...nics];
  let netnses: HeldNetns[] | undefined;
  const around: Surroundings = {
    goAttachments: listGoAttachments(host),
    open: holdersOfDevices(everything.flatMap(({ pci }) => userDevices(host.sys, pci))),
    netnses: () => (netnses ??= listNetns()),
  };
  const devices: Device[] = [];
  for (const { pf, vfs } of groups) {
    const named = pf.ifname === undefined ? undefined : await getLinkWithVfs(host.netns.rtnl, pf.ifname);
    const pfLink = named && isNetdevOf(host.sys, pf.pci, named) ? named : undefined;
    devices.push(await look(host, wholePf(pf), pfLink, undefined, around));
    for (const vf of vfs) {
      devices.push(await look(host, vf, undefined, pfLink && settingsOf(pfLink, vf.index), around));
    }
  }
  for (const nic of nics) devices.push(await look(host, nic, undefined, undefined, around));
  const seen = new Set(everything.map(({ pci }) => pci));
  for (const pci of listClaims(host)) if (!seen.has(pci)) devices.push(lost(host, pci));
  return devices;
}

async function look(
  host: Host,
  vf: Vf,
  pfLink: Link | undefined,
  settings: VfSettings | undefined,
  around: Surroundings,
): Promise<Device> {
  const onHost = pfLink ?? (await findOnHost(host, vf.pci));
  const holders = holdersOf(host.sys, vf.pci, around.open);
  const nobodys: Device = {
    vf,
    isPf: isWholePf(vf),
    state: 'free',
    why: undefined,
    owner: undefined,
    since: undefined,
    link: onHost,
    netns: '',
    rdma: showRdma(host.sys, vf.pci),
    settings,
    claim: undefined,
    before: undefined,
    holders,
  };
  const claim = claimOn(host, vf.pci);
  if (claim instanceof UnreadableClaim) return { ...nobodys, state: 'unreadable', why: claim.message };
  if (claim) return claimed(host, nobodys, claim, around);
  const [made] = around.goAttachments.filter(({ pci }) => pci === vf.pci);
  const goNetns = goPluginNetns(host, vf.pci);
  if (goNetns !== undefined) return inGoPod(nobodys, made, goNetns);
  if (made && goLeftovers(host, vf.pci).length > 0) {
    const owner = goOwner(made, recordedNetns(host, vf.pci) ?? '');
    const { since, original } = made;
    return { ...nobodys, state: 'stale', why: 'its pod is gone', owner, since, before: original };
  }
  return { ...nobodys, ...(await unclaimedUse(host, vf, onHost, holders, around)) };
}

/** A device that a claim of ours is on. */
async function claimed(
  host: Host,
  nobodys: Device,
  claim: Claim,
  { netnses }: Surroundings,
): Promise<Device> {
  const { state, why } = await standing(host, claim);
  const path = placeOf(claim);
  const inode = 'kind' in claim.owner ? claim.owner.sandbox?.inode : claim.owner.netns.inode;
  const isThere = state === 'attached' && path !== '';
  const inPod = isThere ? await linkIn(path, nobodys.vf.pci, ifnameThere(claim)) : undefined;
  const keeper = state === 'held' ? netnses().find((held) => held.inode === inode) : undefined;
  return {
    ...nobodys,
    state,
    why,
    owner: ownerOf(claim),
    since: claim.since,
    link: inPod ?? nobodys.link,
    netns: inPod ? path : '',
    claim,
    before: claim.original.settings,
    holders: keeper?.holders ?? nobodys.holders,
  };
}

/** A device in a pod of the Go plugin. */
async function inGoPod(nobodys: Device, made: GoAttachment | undefined, netns: string): Promise<Device> {
  const inPod = await linkIn(netns, nobodys.vf.pci, made?.ifname ?? usualIfname);
  const owner = made ? goOwner(made, netns) : { ...unknownGoOwner, ifname: inPod?.ifname, netns };
  return {
    ...nobodys,
    state: 'attached',
    why: `the Go plugin put it into "${netns}"`,
    owner,
    since: made?.since,
    link: inPod ?? nobodys.link,
    netns: inPod ? netns : '',
    before: made?.original,
  };
}

/** What is with a device on which nobody has a claim. */
async function unclaimedUse(
  host: Host,
  vf: Vf,
  onHost: Link | undefined,
  holders: readonly Holder[],
  around: Surroundings,
): Promise<Pick<Device, 'state' | 'why'> & Partial<Device>> {
  if (vf.driver === undefined) return { state: 'unbound', why: 'no driver is bound to it' };
  if (isPassedThrough(vf.driver)) {
    const users = describeHolders(holders);
    return { state: 'dpdk', why: `bound to ${vf.driver}${users ? `, used by ${users}` : ''}` };
  }
  if (!onHost) {
    const found = await findElsewhere(vf.pci, around.netnses());
    if (!found) return { state: 'foreign', why: `its driver ${vf.driver} shows no netdev on the host` };
    const users = describeHolders(found.held.holders.slice(0, 2));
    const why = `in namespace "${found.held.path}"${users ? ` of ${users}` : ''}`;
    return { state: 'foreign', why, link: found.link, netns: found.held.path, holders: found.held.holders };
  }
  if (isWholePf(vf)) return { state: onHost.flags & IFF_UP ? 'up' : 'down', why: pfUse(vf.pf) };
  const use = await (isNic(vf) ? nicUse(host, onHost) : hostUse(host, onHost));
  return use === undefined ? { state: 'free', why: undefined } : { state: 'foreign', why: use };
}

function pfUse({ numVfs, totalVfs }: Pf): string {
  return `${numVfs} of ${totalVfs} VFs`;
}

function claimOn(host: Host, pci: string): Claim | UnreadableClaim | undefined {
  try {
    return readClaim(host, pci);
  } catch (error) {
    if (error instanceof UnreadableClaim) return error;
    throw error;
  }
}

/**
 * How long to wait for a VF whose pod is just going: some 100 ms after its name is gone, the kernel
 * gives it back.
 */
const patienceMs = 300;

async function standing(host: Host, claim: Claim): Promise<{ state: State; why: string }> {
  const { phase } = claim;
  if ((phase === 'adding' || phase === 'releasing') && isLocked(host, claim.vf.pci))
    return { state: 'busy', why: `an ${phase === 'adding' ? 'ADD' : 'DEL'} is at work on it` };
  const { state, why } = await standingOf(host, claim, patienceMs);
  return { state: state === 'live' ? 'attached' : state, why };
}

/** Whether a process is at work on a VF. */
function isLocked(host: Host, pci: string): boolean {
  const path = lockPath(host, pci);
  if (modifiedMs(path) === undefined) return false;
  using lock = FileLock.take(path, 0);
  return lock === undefined;
}

/** What Multus calls a pod's first additional interface: only a first guess. */
const usualIfname = 'net1';

/** The device's netdev in a namespace; undefined if either cannot be seen. */
async function linkIn(path: string, pci: string, ifname: string): Promise<Link | undefined> {
  try {
    using netns = Netns.open(path);
    return await findInPod(netns, pci, ifname);
  } catch {
    return undefined; // it has just gone
  }
}

async function findElsewhere(
  pci: string,
  netnses: readonly HeldNetns[],
): Promise<{ held: HeldNetns; link: Link } | undefined> {
  for (const held of netnses) {
    const link = await linkIn(held.path, pci, usualIfname);
    if (link) return { held, link };
  }
  return undefined;
}

/** A claim whose device does not exist any more. */
function lost(host: Host, pci: string): Device {
  const claim = claimOn(host, pci);
  const known = claim instanceof UnreadableClaim ? undefined : claim;
  const { index = -1, pf = { pci: '', ifname: undefined } } = known?.vf ?? {};
  const nothing = { numVfs: 0, totalVfs: 0, driver: undefined };
  const vf = {
    pci,
    index,
    pf: { pci: pf.pci, ifname: pf.ifname, ...nothing },
    driver: undefined,
    ifnames: [],
  };
  const unseen = { link: undefined, netns: '', rdma: undefined, settings: undefined };
  const device = { vf, isPf: false, ...unseen, holders: [] };
  if (!known) {
    const why = claim instanceof UnreadableClaim ? claim.message : undefined;
    const unknown = { owner: undefined, since: undefined, claim: undefined, before: undefined };
    return { ...device, ...unknown, state: 'unreadable', why };
  }
  return {
    ...device,
    state: 'gone',
    why: `it was ${index < 0 ? 'a PF or NIC' : `VF ${index} of PF ${pf.ifname ?? pf.pci}`}; its claim is still there`,
    owner: ownerOf(known),
    since: known.since,
    claim: known,
    before: known.original.settings,
  };
}
