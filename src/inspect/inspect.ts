import { listAddresses } from '../kernel/address.ts';
import { IFF_RUNNING, IFF_UP } from '../kernel/link-message.ts';
import { Netns } from '../kernel/netns.ts';
import { printable } from '../kernel/printable.ts';
import type { Host } from '../vf/host.ts';
import type { PodClaim } from '../vf/claim.ts';
import { describeHolders } from '../vf/users.ts';
import { devicePath, isNic, standsAlone, vfName } from '../vf/inventory.ts';
import { formatIp } from '../vf/ip.ts';
import type { VfSettings } from '../vf/settings.ts';
import { openPodOf } from '../attach/pod.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';
import { formatVlan, toJson } from './list.ts';
import { select } from './select.ts';
import type { Device } from './device.ts';
import { survey } from './survey.ts';
import { formatAge, formatTable, paint, type Style } from './table.ts';

/** What only `sriov inspect` looks up. */
interface Details {
  readonly iommuGroup: string | undefined;
  readonly addresses: readonly string[];
  readonly isNetnsAlive: boolean | undefined;
}

/**
 * `sriov inspect VF|CONTAINER`: everything that is known about a VF, or about those of a container or
 * pod.
 */
export async function inspect(
  host: Host,
  words: readonly string[],
  { json, style }: Flags,
): Promise<Outcome> {
  const [text = '', ...more] = words;
  if (text === '' || more.length > 0) return wrongUsage('inspect', 'it takes one VF, container or pod');
  const found = select(host, await survey(host), text);
  const all = [];
  for (const device of found) all.push({ device, details: await lookCloser(host, device) });
  if (json) {
    const objects = all.map(({ device, details }) => ({
      ...toJson(device),
      ...details,
      claim: device.claim,
    }));
    return { exitCode: 0, stdout: `${JSON.stringify(objects, undefined, 1)}\n` };
  }
  return {
    exitCode: 0,
    stdout: all.map(({ device, details }) => formatDevice(device, details, style, Date.now())).join('\n'),
  };
}

async function lookCloser(host: Host, { vf, link, netns, claim }: Device): Promise<Details> {
  using pod = claim && openPodOf(claim);
  return {
    iommuGroup: host.sys.linkName(`${devicePath(vf.pci)}/iommu_group`),
    addresses: link === undefined ? [] : await addressesOf(host, netns, link.ifindex),
    isNetnsAlive: claim && pod !== undefined,
  };
}

async function addressesOf(host: Host, path: string, ifindex: number): Promise<string[]> {
  using other = path === '' ? undefined : Netns.open(path);
  const all = await listAddresses((other ?? host.netns).rtnl);
  return all
    .filter((address) => address.ifindex === ifindex)
    .map(({ bytes, prefixLength }) => `${formatIp(bytes)}/${prefixLength}`);
}

export function formatDevice(device: Device, details: Details, style: Style, nowMs: number): string {
  const { vf, isPf, state, why, owner, since, link, netns, rdma, claim, holders } = device;
  const { iommuGroup, addresses, isNetnsAlive } = details;
  const original = claim?.original.driver;
  const isDriverChanged = original !== undefined && original !== vf.driver;
  const place = netns === '' ? '' : ` in "${netns}"`;
  const rows: [string, string | undefined][] = [
    ['state', `${state}${why === undefined ? '' : `: ${why}`}`],
    ['driver', `${vf.driver ?? 'none'}${isDriverChanged ? ` (it was ${original})` : ''}`],
    ['IOMMU group', iommuGroup],
    ['VFs', isPf ? `${vf.pf.numVfs} of ${vf.pf.totalVfs}` : undefined],
    ['netdev', link && `${link.ifname}${place}, MAC ${link.mac}, MTU ${link.mtu}, ${carrier(link.flags)}`],
    ['RDMA', rdma && `${[rdma.name, ...rdma.files].join(', ')}${rdma.isOnHost ? '' : ', not on the host'}`],
    ['addresses', addresses.join(', ') || undefined],
    ['pod', owner?.pod],
    ['container', containerOf(owner)],
    ['endpoint', owner?.endpointId],
    ['interface', owner?.ifname],
    ['bond', claim?.version === 1 ? formatBond(claim) : undefined],
    ['network', owner?.network],
    [
      'namespace',
      owner && `${owner.netns}${isNetnsAlive === undefined ? '' : isNetnsAlive ? ' (alive)' : ' (gone)'}`,
    ],
    ['attached by', owner?.by],
    ['since', since && `${since} (${formatAge(since, nowMs)})`],
    ['held by', describeHolders(holders) || undefined],
    ['time of ADD', formatTimes(claim?.times)],
  ];
  if (isNic(vf)) rows.push(['wanted MAC', claim?.asked.mac], ['before', formatNetdev(claim)]);
  const lines = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`  ${paint(style, 'dim', name.padEnd(13))}${printable(value)}\n`],
  );
  const title = paint(style, 'bold', isPf ? `PF ${vf.pf.ifname ?? ''} (${vf.pci})` : vfName(vf));
  return `${title}\n${lines.join('')}${standsAlone(vf) ? '' : formatSettings(device, style)}`;
}

/** "net1, together with 0000:02:10.0" */
function formatBond({ bond }: PodClaim): string | undefined {
  return bond && `${bond.ifname}, together with ${bond.other}`;
}

/** What a NIC's netdev will be again: all that is restored of it. */
function formatNetdev(claim: Device['claim']): string | undefined {
  const netdev = claim?.original.netdev;
  return netdev && `${netdev.ifname}, MAC ${netdev.mac}, MTU ${netdev.mtu}`;
}

/** "web (3f2a...)", or the id of a container without a name */
function containerOf(owner: Device['owner']): string | undefined {
  const { containerName, containerId } = owner ?? {};
  return containerName === undefined ? containerId : `${containerName} (${containerId})`;
}

function carrier(flags: number): string {
  if (!(flags & IFF_UP)) return 'down';
  return flags & IFF_RUNNING ? 'up' : 'up, no carrier';
}

/** "253.1 ms: move 120.4, choice 30.2, ...", the longest first */
function formatTimes(times: Readonly<Record<string, number>> | undefined): string | undefined {
  if (!times) return undefined;
  const sorted = Object.entries(times).sort(([, a], [, b]) => b - a);
  const total = sorted.reduce((sum, [, ms]) => sum + ms, 0);
  const parts = sorted.filter(([, ms]) => ms >= 0.05).map(([name, ms]) => `${name} ${ms}`);
  return `${total.toFixed(1)} ms: ${parts.join(', ')}`;
}

const settingNames: Readonly<Record<keyof VfSettings, string>> = {
  mac: 'MAC',
  vlan: 'VLAN',
  rateMbps: 'rate, Mbps',
  spoofchk: 'spoofchk',
  linkState: 'link state',
  trust: 'trust',
};

/**
 * What the PF has programmed now beside what the claim asked for and found; differing from what was
 * asked for in red.
 */
function formatSettings({ settings, claim, before }: Device, style: Style): string {
  if (!settings && !claim && !before) return '';
  const keys = Object.keys(settingNames) as (keyof VfSettings)[];
  const rows = keys.map((key) => {
    const [now, asked, original] = [settings, claim?.asked, before].map((s) => formatSetting(s, key));
    const isOther = asked !== undefined && now !== undefined && asked !== now;
    return [
      { text: `  ${settingNames[key]}`, colour: 'dim' as const },
      { text: now ?? '-', colour: isOther ? ('red' as const) : undefined },
      { text: asked ?? '-' },
      { text: original ?? '-' },
    ];
  });
  return formatTable(['  setting', 'on the PF now', 'asked for', 'before'], rows, style);
}

function formatSetting(settings: VfSettings | undefined, key: keyof VfSettings): string | undefined {
  if (settings?.[key] === undefined) return undefined;
  switch (key) {
    case 'vlan':
      return formatVlan(settings.vlan) ?? 'none';
    case 'rateMbps':
      return `${settings.rateMbps?.min || 'no'} min, ${settings.rateMbps?.max || 'no'} max`;
    case 'spoofchk':
    case 'trust':
      return settings[key] ? 'on' : 'off';
    case 'mac':
    case 'linkState':
      return settings[key];
  }
}
