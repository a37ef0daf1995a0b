/** Undoing what the Go plugin of the same job attached, so that its binary can be swapped for ours while its pods run. */
import { isUserspaceDriver } from '../dpdk/driver.ts';
import { type FileLock, readFile } from '../kernel/files.ts';
import { Netns } from '../kernel/netns.ts';
import type { PodClaim } from '../vf/claim.ts';
import { readClaimOrLog } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { netdevNames, readVf, type Vf } from '../vf/inventory.ts';
import { findInPod, findOnHost, type NetdevState, netdevState } from '../vf/netdev.ts';
import { Failure, messageOf } from './failure.ts';
import {
  forgetGoAttachment,
  type GoAttachment,
  goPluginNetns,
  leadsToNetns,
  listGoAttachments,
  recordedNetns,
} from './go-cache.ts';
import { ipamType } from './ipam-plugin.ts';
import { freeAddress, isHopeless, writeLease } from './lease.ts';
import { undo } from './release.ts';
import type { Caller } from './wish.ts';

/**
 * DEL of a pod that the Go plugin attached, under the VF's lock: the VF is restored from that plugin's cache.
 * @returns why the address could not be freed
 * @throws StillHeld; Failure `incomplete` or `busy`
 */
export async function releaseGoAttachment(
  host: Host,
  made: GoAttachment,
  lock: FileLock,
  caller: Caller,
): Promise<Failure | undefined> {
  const holder = goPluginNetns(host, made.pci);
  const netns = caller.netns ?? '';
  if (hasPassedOn(host, made) || (holder !== undefined && netns !== '' && holder !== netns)) {
    // Its cache may still be the only one that knows what the VF was like at first: recovery looks at it when the VF is free.
    host.log.info('VF serves another pod now', { vf: made.pci });
    return freeOnly(host, await claimOf(host, made, caller, undefined), caller);
  }
  return restore(host, made, lock, caller, netns || recordedNetns(host, made.pci));
}

/** Whether another pod got the VF after this one: from us, or from the Go plugin. */
function hasPassedOn(host: Host, { pci, madeMs }: GoAttachment): boolean {
  const claim = readClaimOrLog(host, pci);
  if (claim && Date.parse(claim.since) > madeMs) return true;
  return listGoAttachments(host).some((other) => other.pci === pci && other.madeMs > madeMs);
}

/**
 * What pods of the Go plugin that died without a DEL have left on a free VF, the newest first: without this, the next pod would get it with
 * the dead one's VLAN and trust.
 */
export function goLeftovers(host: Host, pci: string): GoAttachment[] {
  const all = listGoAttachments(host).filter((made) => made.pci === pci);
  if (all.length === 0 || goPluginNetns(host, pci) !== undefined) return [];
  // Old versions of that plugin kept no record of the namespace: a VF that is not on the host may be in a pod that lives.
  const isOnHost = netdevNames(host.sys, pci).length > 0;
  return recordedNetns(host, pci) === undefined && !isOnHost ? [] : all;
}

/** Restores a VF from what a dead pod of the Go plugin left, under its lock. @throws StillHeld; Failure */
export async function recoverGoLeftover(
  host: Host,
  made: GoAttachment,
  lock: FileLock,
  caller: Caller,
): Promise<void> {
  const { pci, containerId, network } = made;
  host.log.warning('left by a dead pod of the Go plugin', { vf: pci, container: containerId, network });
  await restore(host, made, lock, caller, recordedNetns(host, pci));
}

async function restore(
  host: Host,
  made: GoAttachment,
  lock: FileLock,
  caller: Caller,
  podPath: string | undefined,
): Promise<Failure | undefined> {
  const claim = await claimOf(host, made, caller, podPath);
  host.log.info('attachment of the Go plugin', { vf: made.pci, path: made.path });
  const notFreed = await undo(host, claim, lock, caller);
  if (notFreed) writeLease(host, claim, notFreed);
  forgetGoAttachment(host, made);
  return notFreed && !isHopeless({ claim, isStripped: true, isUncertain: false }, caller)
    ? notFreed
    : undefined;
}

/** Only the address of an attachment whose VF is somebody else's by now. */
async function freeOnly(host: Host, claim: PodClaim, caller: Caller): Promise<Failure | undefined> {
  try {
    await freeAddress(host, claim, caller);
    return undefined;
  } catch (error) {
    const notFreed = new Failure('incomplete', `Address not freed: ${messageOf(error)}`, undefined, {
      cause: error,
    });
    writeLease(host, claim, notFreed);
    return isHopeless({ claim, isStripped: true, isUncertain: false }, caller) ? undefined : notFreed;
  }
}

/** The claim that we would have written for an attachment of the Go plugin. */
async function claimOf(
  host: Host,
  made: GoAttachment,
  caller: Caller,
  podPath: string | undefined,
): Promise<PodClaim> {
  const { pci, containerId, ifname, network } = made;
  const hasPod = podPath !== undefined && leadsToNetns(podPath);
  using pod = hasPod ? Netns.open(podPath) : undefined;
  const vf = readVf(host.sys, pci);
  // Only the caller knows more than the type of the IPAM, and only of its own network.
  const config = { name: network, type: 'sriov', ipam: made.ipam };
  const given = caller.request;
  const isSame = given?.config['name'] === network && ipamType(given.config) === ipamType(config);
  const request = {
    config: isSame ? given.config : config,
    cniArgs: given?.cniArgs ?? '',
    cniPath: given?.cniPath ?? '',
  };
  return {
    version: 1,
    phase: 'attached',
    since: made.since,
    vf: { pci, index: vf?.index ?? -1, pf: { pci: vf?.pf.pci ?? '', ifname: vf?.pf.ifname } },
    owner: {
      network,
      containerId,
      ifname,
      netns: { path: podPath ?? '', ...(pod?.identity ?? { inode: 0 }) },
      bootId: made.madeMs >= bootedMs() ? host.bootId : '',
    },
    podIfname: ifname,
    request,
    dpdk: isUserspaceDriver(vf?.driver) ? { driver: vf?.driver } : undefined,
    asked: made.asked,
    original: {
      driver: vf?.driver,
      settings: made.original,
      netdev: vf && (await originalNetdev(host, made, vf, pod)),
    },
  };
}

/** What the VF's netdev was like: as noted, and for the rest as it is. */
async function originalNetdev(
  host: Host,
  { hostIfname, mac, mtu, ifname, pci }: GoAttachment,
  vf: Vf,
  pod: Netns | undefined,
): Promise<NetdevState | undefined> {
  const link = (pod && (await findInPod(pod, pci, ifname))) ?? (await findOnHost(host, vf.pci));
  if (!link || hostIfname === undefined) return undefined;
  const is = netdevState(link);
  return {
    ifname: hostIfname,
    altnames: is.altnames,
    mac: mac ?? is.mac,
    mtu: mtu ?? is.mtu,
    promisc: false,
    allmulti: false,
  };
}

function bootedMs(): number {
  const uptimeSeconds = Number(readFile('/proc/uptime')?.split(' ')[0] ?? 0);
  return Date.now() - uptimeSeconds * 1000;
}
