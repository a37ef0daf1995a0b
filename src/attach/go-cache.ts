/**
 * The state that the Go plugin of the same job leaves on a node (sriov-cni 2.x): its cache of what each attachment changed, and its records
 * of which VF is in which namespace. Its locks are ours, too (lockVf).
 */
import * as z from 'zod/mini';
import { Errno, errnoOf, isErrno, NotANetns } from '../kernel/errno.ts';
import { listFolder, modifiedMs, readFile, removeFile } from '../kernel/files.ts';
import { InputRefused, parseJson } from '../kernel/json.ts';
import { ETH_P_8021AD } from '../kernel/link-message.ts';
import { Netns } from '../kernel/netns.ts';
import type { Host } from '../vf/host.ts';
import { parsePci } from '../vf/inventory.ts';
import type { VfSettings } from '../vf/settings.ts';
import { messageOf } from './failure.ts';

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

/** An attachment that the Go plugin has made and not undone. */
export interface GoAttachment {
  readonly path: string;
  readonly pci: string;
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
  /** ISO 8601 */
  readonly since: string;
  readonly madeMs: number;
  readonly ipam: unknown;
  /** The VF's netdev before: name, MAC and MTU as far as they were noted. */
  readonly hostIfname: string | undefined;
  readonly mac: string | undefined;
  readonly mtu: number | undefined;
  /** What was asked of the PF; only which settings counts. */
  readonly asked: VfSettings;
  readonly original: VfSettings;
}

function recordPath(host: Host, pci: string): string {
  return `${host.stateDir}/pci/${pci}`;
}

/** Path of the namespace that the Go plugin says it has put a VF into, whether it exists or not. */
export function recordedNetns(host: Host, pci: string): string | undefined {
  return readFile(recordPath(host, pci))?.trim() || undefined;
}

/** Path of the namespace that the Go plugin has put a VF into; undefined if it has not, or the namespace is gone. */
export function goPluginNetns(host: Host, pci: string): string | undefined {
  const path = recordedNetns(host, pci);
  return path !== undefined && leadsToNetns(path) ? path : undefined;
}

export function leadsToNetns(path: string): boolean {
  try {
    Netns.open(path)[Symbol.dispose]();
    return true;
  } catch (error) {
    if (error instanceof NotANetns || isErrno(error, Errno.ENOENT, Errno.ENOTDIR, Errno.EINVAL)) return false;
    throw error;
  }
}

/** The attachments that the Go plugin's caches tell of, the newest first. */
export function listGoAttachments(host: Host): GoAttachment[] {
  return listFolder(host.stateDir)
    .flatMap((name) => {
      try {
        return readCache(host, name) ?? [];
      } catch (error) {
        if (!isNoCache(error)) throw error;
        host.log.debug('no cache of the Go plugin', { name, error: messageOf(error) });
        return [];
      }
    })
    .sort((a, b) => b.madeMs - a.madeMs);
}

/** The Go plugin's attachment of that name; undefined if it knows nothing of it. */
export function findGoAttachment(host: Host, containerId: string, ifname: string): GoAttachment | undefined {
  try {
    return readCache(host, `${containerId}-${ifname}`);
  } catch (error) {
    if (!isNoCache(error)) throw error;
    host.log.error('unreadable cache of the Go plugin left alone', { containerId, error: messageOf(error) });
    return undefined;
  }
}

/**
 * Whatever else lies in that folder is no reason to fail every ADD; but a disk that does not read is: it may hide what a dead pod left on
 * the VF.
 */
function isNoCache(error: unknown): boolean {
  return errnoOf(error) === undefined || isErrno(error, Errno.EISDIR);
}

/** Forgets an attachment that was undone, and in which namespace its VF was. */
export function forgetGoAttachment(host: Host, { path, pci }: GoAttachment): void {
  removeFile(recordPath(host, pci));
  removeFile(path);
}

/**
 * CONTAINER-IFNAME; an interface name of a pod seldom has a dash, a container id may.
 * @throws an error that says what is wrong with the file
 */
function readCache(host: Host, name: string): GoAttachment | undefined {
  const at = name.lastIndexOf('-');
  if (at < 1) return undefined;
  const path = `${host.stateDir}/${name}`;
  const json = readFile(path);
  if (json === undefined) return undefined;
  const cache = cacheSchema.parse(parseJson(json));
  const pci = parsePci(cache.deviceID);
  if (pci === undefined)
    throw new InputRefused(`"deviceID": ${JSON.stringify(cache.deviceID)} is no PCI address`);
  const { HostIFName, EffectiveMAC, MTU } = cache.OrigVfState;
  const madeMs = modifiedMs(path) ?? 0;
  return {
    path,
    pci,
    network: cache.name,
    containerId: name.slice(0, at),
    ifname: name.slice(at + 1),
    since: new Date(madeMs).toISOString(),
    madeMs,
    ipam: cache.ipam ?? undefined,
    hostIfname: HostIFName || undefined,
    mac: EffectiveMAC?.toLowerCase() || undefined,
    mtu: MTU || undefined,
    asked: askedSettings(cache),
    original: originalSettings(cache),
  };
}

function askedSettings(cache: Cache): VfSettings {
  const original = originalSettings(cache);
  const hasRate = (cache.min_tx_rate ?? cache.max_tx_rate ?? undefined) !== undefined;
  return {
    mac: cache.MAC ? original.mac : undefined,
    vlan: cache.vlan === undefined || cache.vlan === null ? undefined : original.vlan,
    rateMbps: hasRate ? original.rateMbps : undefined,
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
