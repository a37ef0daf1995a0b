/**
 * The state that the Go plugin of the same job leaves on a node (sriov-cni 2.x), so that its binary can be swapped for ours while its pods
 * run: its cache of what each attachment changed, and its records of which VF is in which namespace. Its locks are ours, too (lockVf).
 */
import * as z from 'zod/mini';
import { isUserspaceDriver } from '../dpdk/driver.ts';
import { Errno, isErrno, NotANetns } from '../kernel/errno.ts';
import { type FileLock, listFolder, modifiedMs, readFile, removeFile } from '../kernel/files.ts';
import { parseJson } from '../kernel/json.ts';
import { ETH_P_8021AD } from '../kernel/link.ts';
import { Netns } from '../kernel/netns.ts';
import { type Claim, lockVf, readClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { readVf } from '../vf/inventory.ts';
import { findInPod, findOnHost, netdevState } from '../vf/netdev.ts';
import type { VfSettings } from '../vf/settings.ts';
import { Failure } from './failure.ts';
import { release } from './release.ts';
import type { Attachment, Caller } from './wish.ts';

const text = z.optional(z.nullable(z.string()));
const number = z.optional(z.nullable(z.int()));

const cacheSchema = z.lazy(() =>
  z.looseObject({
    name: z.string(),
    ipam: z.optional(z.nullable(z.looseObject({ type: text }))),
    deviceID: z.string(),
    MAC: text,
    vlan: number,
    spoofchk: text,
    trust: text,
    link_state: text,
    min_tx_rate: number,
    max_tx_rate: number,
    OrigVfState: z.looseObject({
      HostIFName: text,
      SpoofChk: z.optional(z.boolean()),
      Trust: z.optional(z.boolean()),
      AdminMAC: text,
      EffectiveMAC: text,
      Vlan: number,
      VlanQoS: number,
      VlanProto: number,
      MinTxRate: number,
      MaxTxRate: number,
      LinkState: number,
      MTU: number,
    }),
  }),
);
type Cache = z.infer<typeof cacheSchema>;

function recordPath(host: Host, pci: string): string {
  return `${host.stateDir}/pci/${pci}`;
}

function opens(path: string): boolean {
  try {
    Netns.open(path)[Symbol.dispose]();
    return true;
  } catch (error) {
    if (error instanceof NotANetns || isErrno(error, Errno.ENOENT, Errno.ENOTDIR, Errno.EINVAL)) return false;
    throw error;
  }
}

/** Path of the namespace that the Go plugin has put a VF into; undefined if it has not, or the namespace is gone. */
export function goPluginNetns(host: Host, pci: string): string | undefined {
  const path = readFile(recordPath(host, pci))?.trim();
  return path && opens(path) ? path : undefined;
}

/** An attachment that the Go plugin has made and not undone. */
export interface GoAttachment {
  readonly pci: string;
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
  /** ISO 8601 */
  readonly since: string;
}

/** The attachments that the Go plugin's caches tell of. */
export function listGoAttachments(host: Host): GoAttachment[] {
  return listFolder(host.stateDir).flatMap((name) => {
    const at = name.lastIndexOf('-');
    if (at < 1) return [];
    const path = `${host.stateDir}/${name}`;
    const parsed = cacheSchema.safeParse(parseOrIgnore(readFile(path) ?? ''));
    if (!parsed.success) return [];
    const { deviceID: pci, name: network } = parsed.data;
    const since = new Date(modifiedMs(path) ?? 0).toISOString();
    return [{ pci, network, containerId: name.slice(0, at), ifname: name.slice(at + 1), since }];
  });
}

/**
 * DEL of a pod that the Go plugin attached: restores the VF from its cache.
 * @returns false if that plugin knows nothing of the attachment
 */
export async function delGoAttachment(
  host: Host,
  attachment: Attachment,
  request: Claim['request'],
  caller: Caller,
): Promise<boolean> {
  const { containerId, ifname, netns } = attachment;
  const path = `${host.stateDir}/${containerId}-${ifname}`;
  const cached = readFile(path);
  if (cached === undefined) return false;
  const parsed = cacheSchema.safeParse(parseOrIgnore(cached));
  if (!parsed.success) {
    host.log.error('unreadable cache of the Go plugin left alone', { path, error: parsed.error.message });
    return false;
  }
  const cache = parsed.data;
  const pci = cache.deviceID;
  using lock = lockVf(host, pci);
  if (!lock) throw new Failure('busy', `VF ${pci} is busy: another process is still working on it`);
  const holder = goPluginNetns(host, pci);
  const hasPassedOn =
    readClaim(host, pci) !== undefined || (holder !== undefined && netns !== '' && holder !== netns);
  if (hasPassedOn) {
    host.log.info('VF serves another pod now', { vf: pci });
    removeFile(path);
    return false;
  }
  host.log.info('attachment of the Go plugin', { vf: pci, path });
  await releaseCached(host, attachment, request, caller, cache, path, lock);
  removeFile(recordPath(host, pci));
  removeFile(path);
  return true;
}

function parseOrIgnore(json: string): unknown {
  try {
    return parseJson(json);
  } catch {
    return undefined;
  }
}

async function releaseCached(
  host: Host,
  attachment: Attachment,
  request: Claim['request'],
  caller: Caller,
  cache: Cache,
  path: string,
  lock: FileLock,
): Promise<void> {
  const { containerId, ifname, netns } = attachment;
  const pci = cache.deviceID;
  const podPath = netns || (readFile(recordPath(host, pci))?.trim() ?? '');
  const hasPod = podPath !== '' && opens(podPath);
  using pod = hasPod ? Netns.open(podPath) : undefined;
  const vf = readVf(host.sys, pci);
  const link = vf && ((pod && (await findInPod(pod, pci, ifname))) ?? (await findOnHost(host, pci)));
  const { HostIFName, EffectiveMAC, MTU } = cache.OrigVfState;
  const netdev =
    link && HostIFName
      ? {
          ...netdevState(link),
          ifname: HostIFName,
          mac: EffectiveMAC || link.mac,
          mtu: MTU || link.mtu,
          promisc: false,
          allmulti: false,
        }
      : undefined;
  const isFromThisBoot = (modifiedMs(path) ?? 0) >= bootedMs();
  const stdinIpam = request.config['ipam'] as { type?: unknown } | null | undefined;
  const claim: Claim = {
    version: 1,
    phase: 'attached',
    since: new Date(modifiedMs(path) ?? 0).toISOString(),
    vf: { pci, index: vf?.index ?? -1, pf: { pci: vf?.pf.pci ?? '', ifname: vf?.pf.ifname } },
    owner: {
      network: cache.name,
      containerId,
      ifname,
      netns: { path: podPath, ...(pod?.identity ?? { inode: 0 }) },
      bootId: isFromThisBoot ? host.bootId : '',
    },
    podIfname: ifname,
    request: {
      config: stdinIpam?.type === cache.ipam?.type ? request.config : { ...request.config, ipam: cache.ipam },
      cniArgs: request.cniArgs,
      cniPath: request.cniPath,
    },
    dpdk: isUserspaceDriver(vf?.driver) ? { driver: vf?.driver } : undefined,
    asked: askedSettings(cache),
    original: { driver: vf?.driver, settings: originalSettings(cache), netdev },
  };
  await release(host, claim, lock, caller);
}

function bootedMs(): number {
  const uptimeSeconds = Number(readFile('/proc/uptime')?.split(' ')[0] ?? 0);
  return Date.now() - uptimeSeconds * 1000;
}

/** Only which settings were asked for counts here. */
function askedSettings(cache: Cache): VfSettings {
  const original = originalSettings(cache);
  return {
    mac: cache.MAC ? original.mac : undefined,
    vlan: cache.vlan === undefined || cache.vlan === null ? undefined : original.vlan,
    rateMbps:
      (cache.min_tx_rate ?? cache.max_tx_rate ?? undefined) === undefined ? undefined : original.rateMbps,
    spoofchk: cache.spoofchk ? original.spoofchk : undefined,
    linkState: cache.link_state ? original.linkState : undefined,
    trust: cache.trust ? original.trust : undefined,
  };
}

function originalSettings({ OrigVfState: was }: Cache): VfSettings {
  return {
    mac: was.AdminMAC?.toLowerCase() || undefined,
    // Old caches have no protocol.
    vlan: {
      id: was.Vlan ?? 0,
      qos: was.VlanQoS ?? 0,
      proto: was.VlanProto === ETH_P_8021AD ? '802.1ad' : '802.1q',
    },
    rateMbps: { min: was.MinTxRate ?? 0, max: was.MaxTxRate ?? 0 },
    spoofchk: was.SpoofChk,
    linkState: (['auto', 'enable', 'disable'] as const)[was.LinkState ?? 0],
    trust: was.Trust,
  };
}
