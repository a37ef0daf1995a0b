import { Errno, errnoName, isErrno, KernelError } from '../kernel/errno.ts';
import {
  ETH_P_8021AD,
  ETH_P_8021Q,
  formatMac,
  type Link,
  macBytes,
  type VfInfo,
} from '../kernel/link-message.ts';
import { getLinkWithVfs, setVf, vfInfoOf } from '../kernel/link.ts';
import type { Rtnetlink } from '../kernel/netlink.ts';
import type { Host } from './host.ts';
import { isNetdevOf, NotUsable, pfName, standsAlone, type Vf, vfName } from './inventory.ts';

/** What a PF programs for a VF. Undefined: the driver does not report it, or nobody asked for it. */
export interface VfSettings {
  /** Administrative MAC in colon form; all zeros: none. */
  readonly mac?: string | undefined;
  /** Port VLAN; id 0: none. */
  readonly vlan?:
    { readonly id: number; readonly qos: number; readonly proto: '802.1q' | '802.1ad' } | undefined;
  /** 0: no limit */
  readonly rateMbps?: { readonly min: number; readonly max: number } | undefined;
  readonly spoofchk?: boolean | undefined;
  readonly linkState?: 'auto' | 'enable' | 'disable' | undefined;
  readonly trust?: boolean | undefined;
}

/** In the order in which the kernel applies them (do_setvfinfo, net/core/rtnetlink.c, Linux 6.12). */
const keys = [
  'mac',
  'vlan',
  'rateMbps',
  'spoofchk',
  'linkState',
  'trust',
] as const satisfies (keyof VfSettings)[];
type Key = (typeof keys)[number];

const linkStates = ['auto', 'enable', 'disable'] as const;

/**
 * What a driver without spoofchk or trust reports for it: rtnl_fill_vfinfo() (net/core/rtnetlink.c) presets these with -1.
 * Everything else it presets with 0: a driver without link state says "auto", one without rates "no limit".
 */
const UNKNOWN = 0xffffffff;

function toggleOf(entry: { setting: number } | undefined): boolean | undefined {
  return entry === undefined || entry.setting === UNKNOWN ? undefined : entry.setting !== 0;
}

/** What a PF reports for one of its VFs; undefined if it says nothing of this VF now (ice: "VF in reset"). @throws KernelError */
export function settingsOf(pf: Link, index: number): VfSettings | undefined {
  const info = vfInfoOf(pf, index);
  return info && readSettings(info);
}

/** What the PF reports for a VF. */
export function readSettings(info: VfInfo): VfSettings {
  const vlan = info.vlanList?.[0] ?? (info.vlan && { ...info.vlan, proto: ETH_P_8021Q });
  const state = info.linkState?.setting;
  return {
    mac: info.mac && formatMac(info.mac.mac.subarray(0, 6)),
    vlan: vlan && { id: vlan.vlan, qos: vlan.qos, proto: vlan.proto === ETH_P_8021AD ? '802.1ad' : '802.1q' },
    rateMbps: info.rate && { min: info.rate.minTxRate, max: info.rate.maxTxRate },
    spoofchk: toggleOf(info.spoofchk),
    linkState: state === undefined ? undefined : linkStates[state],
    trust: toggleOf(info.trust),
  };
}

/** The settings in the form of the PF's message. Same as `ip link set PF vf INDEX ...`, and byte for byte what iproute2 sends. */
export function writeSettings(vf: number, settings: VfSettings): VfInfo {
  const { mac, vlan, rateMbps, spoofchk, linkState, trust } = settings;
  const tag = vlan && { vf, vlan: vlan.id, qos: vlan.qos };
  return {
    mac: mac === undefined ? undefined : { vf, mac: macBytes(mac) },
    // Before Linux 4.9 there is no VLAN list, and 802.1Q does not need it.
    vlan: vlan?.proto === '802.1q' ? tag : undefined,
    vlanList: vlan?.proto === '802.1ad' && tag ? [{ ...tag, proto: ETH_P_8021AD }] : undefined,
    rate: rateMbps && { vf, minTxRate: rateMbps.min, maxTxRate: rateMbps.max },
    spoofchk: spoofchk === undefined ? undefined : { vf, setting: Number(spoofchk) },
    linkState: linkState === undefined ? undefined : { vf, setting: linkStates.indexOf(linkState) },
    trust: trust === undefined ? undefined : { vf, setting: Number(trust) },
  };
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** What has to be programmed to get from one state to the other: only what `to` tells and `from` tells otherwise or not at all. */
export function changes(from: VfSettings, to: VfSettings): VfSettings {
  return pick(to, (key) => to[key] !== undefined && !isEqual(from[key], to[key]));
}

/**
 * What a release brings back on the PF: the settings that were asked for. A MAC that nobody asked for is changed through the netdev, and
 * goes back that way: writing it here would pin it for ever. Under a userspace driver there is no netdev, and an application may have
 * changed it.
 */
export function restorable(original: VfSettings, asked: VfSettings, hasNetdev: boolean): VfSettings {
  return pick(original, (key) => asked[key] !== undefined || (key === 'mac' && !hasNetdev));
}

/**
 * What a release sets where the driver takes a setting and does not report it, so that nobody knows what it was: what drivers start with.
 * The next tenant is not to be trusted because the last one was.
 */
export function unknownBefore(original: VfSettings, asked: VfSettings): VfSettings {
  const isUnknown = (key: Key) => asked[key] !== undefined && original[key] === undefined;
  return pick({ spoofchk: true, trust: false }, isUnknown);
}

function pick(settings: VfSettings, wanted: (key: Key) => boolean): VfSettings {
  return Object.fromEntries(
    keys.filter((key) => wanted(key) && settings[key] !== undefined).map((key) => [key, settings[key]]),
  );
}

/** A setting in the words of the network configuration, for messages: `"vlan": 100, "vlanQoS": 3`. */
function describe(settings: VfSettings, key: Key, errno?: number): string {
  const { vlan, rateMbps } = settings;
  switch (key) {
    case 'mac':
      return `"mac": "${settings.mac}"`;
    case 'vlan':
      if (vlan?.proto === '802.1ad' && errno === Errno.EPROTONOSUPPORT) return `"vlanProto": "802.1ad"`;
      return `"vlan": ${vlan?.id}${vlan?.qos ? `, "vlanQoS": ${vlan.qos}` : ''}${vlan?.proto === '802.1ad' ? ', "vlanProto": "802.1ad"' : ''}`;
    case 'rateMbps':
      return [rateMbps?.min && `"min_tx_rate": ${rateMbps.min}`, `"max_tx_rate": ${rateMbps?.max}`]
        .filter(Boolean)
        .join(', ');
    case 'spoofchk':
      return `"spoofchk": "${settings.spoofchk ? 'on' : 'off'}"`;
    case 'linkState':
      return `"link_state": "${settings.linkState}"`;
    case 'trust':
      return `"trust": "${settings.trust ? 'on' : 'off'}"`;
  }
}

/** Settings in the words of the network configuration. */
export function describeSettings(settings: VfSettings): string[] {
  return keys.flatMap((key) => (settings[key] === undefined ? [] : [describe(settings, key)]));
}

/** In which settings a VF is not what was asked for. What the driver does not report cannot be compared. */
export function differences(is: VfSettings, asked: VfSettings): string[] {
  return keys
    .filter((key) => is[key] !== undefined && changes(is, asked)[key] !== undefined)
    .map((key) => `the PF has ${describe(is, key)} for it, not ${describe(asked, key)}`);
}

/** A setting that this card or its driver cannot have. */
export class Unsupported extends Error {
  override readonly name: string = 'Unsupported';
}

/** The driver of the PF refused a setting of a VF, or that of a NIC its MAC. */
export class SettingRefused extends Unsupported {
  override readonly name = 'SettingRefused';
  /** Key and value as in the network configuration: `"vlan": 100`. */
  readonly setting: string;
  readonly errno: number;

  constructor(vf: Vf, setting: string, cause: KernelError) {
    const hint = cause.hint ? ` (${cause.hint})` : '';
    const place = standsAlone(vf) ? vfName(vf) : `VF ${vf.index} (${vf.pci}) of ${pfName(vf.pf)}`;
    super(
      `Cannot set ${setting} on ${place}: ` +
        `its driver ${vf.pf.driver ?? '(none)'} answered ${errnoName(cause.errno)}${hint}`,
      { cause },
    );
    this.setting = setting;
    this.errno = cause.errno;
  }
}

/** A VF that is being reset answers EAGAIN or EBUSY (i40e, ice): it is tried again so often, at this distance. */
const busyTries = 20;
const busyPauseMs = 100;

/**
 * The PF of a VF, and what it has programmed for it; waits for a VF that is being reset. A PF whose driver has no settings of VFs (virtio)
 * has no list of them either.
 * @throws NotUsable if the PF is out of sight; KernelError EAGAIN
 */
export async function awaitSettings(host: Host, vf: Vf): Promise<{ pf: Link; settings: VfSettings }> {
  const operation = `read the settings of ${vfName(vf)}`;
  for (let tries = 1; ; tries++) {
    const pf = vf.pf.ifname === undefined ? undefined : await getLinkWithVfs(host.netns.rtnl, vf.pf.ifname);
    if (pf && !isNetdevOf(host.sys, vf.pf.pci, pf))
      throw new KernelError(operation, Errno.EAGAIN, `its PF is not "${pf.ifname}" any more`);
    if (!pf) throw new NotUsable(`Cannot program ${vfName(vf)}: its PF has no netdev on the host`);
    if (!pf.vfs) return { pf, settings: {} };
    const settings = settingsOf(pf, vf.index);
    if (settings) return { pf, settings };
    if (tries === busyTries)
      throw new KernelError(operation, Errno.EAGAIN, 'its PF does not report it now: it is being reset');
    await new Promise((resolve) => setTimeout(resolve, busyPauseMs));
  }
}

/** Programs a VF: everything in one message. @throws SettingRefused that names the refused key; what was set before it stays set. */
export async function applySettings(
  rtnl: Rtnetlink,
  pfIfindex: number,
  vf: Vf,
  settings: VfSettings,
): Promise<void> {
  if (Object.keys(settings).length === 0) return;
  const operation = `program ${pfName(vf.pf)} for VF ${vf.index}`;
  try {
    await setVf(rtnl, operation, pfIfindex, writeSettings(vf.index, settings));
    return;
  } catch (error) {
    if (!('errno' in (error as object))) throw error;
  }
  // The kernel does not say which one it was: one by one tells.
  for (const key of keys) {
    if (settings[key] === undefined) continue;
    const one = { [key]: settings[key] };
    for (let tries = 1; ; tries++) {
      try {
        await setVf(rtnl, operation, pfIfindex, writeSettings(vf.index, one));
        break;
      } catch (error) {
        const { errno } = error as KernelError;
        if (errno === undefined) throw error;
        if (tries === busyTries || !isErrno(error, Errno.EAGAIN, Errno.EBUSY)) {
          throw new SettingRefused(vf, describe(settings, key, errno), error as KernelError);
        }
        await new Promise((resolve) => setTimeout(resolve, busyPauseMs));
      }
    }
  }
}

/** Settings as fields of a log line. */
export function flat(settings: object): Record<string, string> {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  return Object.fromEntries(
    Object.entries(settings).flatMap(([key, value]) => (value === undefined ? [] : [[key, text(value)]])),
  );
}
