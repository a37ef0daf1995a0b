import { listLeases } from '../attach/lease.ts';
import { KernelError } from '../kernel/errno.ts';
import { FileLock, writeFileAtomically } from '../kernel/files.ts';
import { IFF_UP, type Link } from '../kernel/link-message.ts';
import { getLinkWithVfStats, vfInfosOf } from '../kernel/link.ts';
import { type Counters, getCounters, vfStats } from '../kernel/link-stats.ts';
import { decoded } from '../kernel/netlink.ts';
import { Netns } from '../kernel/netns.ts';
import type { Host } from '../vf/host.ts';
import { isNetdevOf, type Pf } from '../vf/inventory.ts';
import { type DeviceOwner, nickname } from './device-owner.ts';
import { type Family, formatMetrics, type Sample } from './open-metrics.ts';
import type { Device, State } from './device.ts';
import { survey } from './survey.ts';
import type { Flags, Outcome } from './usage.ts';

/** Who has counted: the PF, which sees a VF whoever drives it, or the VF's own netdev, as long as it has one. */
type Source = 'pf' | 'netdev';

/** A device, and what passed through it. */
export interface Measured {
  readonly device: Device;
  readonly counters: { readonly [source in Source]?: Counters | undefined };
}

/** How long to wait for another run that writes the same file. */
const lockTimeoutMs = 10_000;

/** `sriov metrics`: every PF and VF as OpenMetrics text. */
export async function metrics(host: Host, { output }: Flags): Promise<Outcome> {
  const measured = await measure(host, await survey(host));
  const text = formatMetrics(familiesOf(measured, listLeases(host).length));
  if (output === undefined) return { exitCode: 0, stdout: text };
  using lock = FileLock.take(`${output}.lock`, lockTimeoutMs);
  if (!lock) return { exitCode: 1, stdout: '', stderr: `Another process is writing "${output}"\n` };
  writeFileAtomically(output, text, false, 0o644); // node_exporter is another user
  return { exitCode: 0, stdout: '' };
}

async function measure(host: Host, devices: readonly Device[]): Promise<Measured[]> {
  const ofPfs = new Map<string, ReadonlyMap<number, Counters>>();
  for (const { isPf, vf } of devices) if (isPf) ofPfs.set(vf.pci, await countersOfVfs(host, vf.pf));
  const measured: Measured[] = [];
  for (const device of devices) {
    const { isPf, vf } = device;
    const pf = isPf ? undefined : ofPfs.get(vf.pf.pci)?.get(vf.index);
    measured.push({ device, counters: isPf ? {} : { pf, netdev: await ownCounters(host, device) } });
  }
  return measured;
}

/** What a PF has counted for its VFs, by their numbers. */
async function countersOfVfs(host: Host, { pci, ifname }: Pf): Promise<ReadonlyMap<number, Counters>> {
  if (ifname === undefined) return new Map();
  try {
    const pf = await getLinkWithVfStats(host.netns.rtnl, ifname);
    return pf && isNetdevOf(host.sys, pci, pf) ? readCounters(pf) : new Map<number, Counters>();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    host.log.error('its VFs have no counters', { pf: ifname, error: error.message });
    return new Map();
  }
}

/**
 * The counters in a PF's answer; none if all are zero: either no VF has ever had a packet, or its driver counts nothing, which the kernel
 * does not tell apart. A zero that is no count would be taken for a silent VF.
 */
export function readCounters(pf: Link): ReadonlyMap<number, Counters> {
  const found = new Map<number, Counters>();
  for (const { mac, stats } of vfInfosOf(pf))
    if (mac && stats)
      found.set(
        mac.vf,
        decoded('read VF statistics', () => vfStats.read(stats)),
      );
  const hasCounted = [...found.values()].some((counters) => counted.some(([key]) => counters[key]));
  return hasCounted ? found : new Map<number, Counters>();
}

/** What the VF's netdev has counted, wherever it is. */
async function ownCounters(host: Host, { link, netns }: Device): Promise<Counters | undefined> {
  if (!link) return undefined;
  try {
    using there = netns === '' ? undefined : Netns.open(netns);
    return await getCounters((there ?? host.netns).rtnl, link.ifindex);
  } catch {
    return undefined; // its namespace has just gone
  }
}

/** What is counted of a VF: name and unit of its metric, and what it says. */
const counted: readonly (readonly [keyof Counters, string, 'bytes' | 'packets', string])[] = [
  ['rxBytes', 'receive_bytes', 'bytes', 'Bytes that the VF received.'],
  ['rxPackets', 'receive_packets', 'packets', 'Packets that the VF received.'],
  ['rxErrors', 'receive_errors_packets', 'packets', 'Packets that the VF received and could not use.'],
  ['rxDropped', 'receive_dropped_packets', 'packets', 'Packets for the VF that had no room.'],
  ['multicast', 'receive_multicast_packets', 'packets', 'Multicast packets that the VF received.'],
  ['broadcast', 'receive_broadcast_packets', 'packets', 'Broadcast packets that the VF received.'],
  ['txBytes', 'transmit_bytes', 'bytes', 'Bytes that the VF sent.'],
  ['txPackets', 'transmit_packets', 'packets', 'Packets that the VF sent.'],
  ['txErrors', 'transmit_errors_packets', 'packets', 'Packets that the VF could not send.'],
  ['txDropped', 'transmit_dropped_packets', 'packets', 'Packets that the VF or its PF did not let out.'],
];

/** What a VF can be; each PF has a series for every one, so that none begins or ends with its first and last VF. */
const vfStates = [
  'free',
  'attached',
  'busy',
  'stale',
  'held',
  'dpdk',
  'foreign',
  'unbound',
  'unreadable',
  'gone',
] as const satisfies State[];

const claimStates = ['attached', 'busy', 'stale', 'held', 'unreadable', 'gone'] as const satisfies State[];

type Labels = Sample['labels'];

function gauge(name: string, help: string, samples: readonly Sample[], unit?: Family['unit']): Family {
  return { name: `sriov_${name}`, type: 'gauge', unit, help, samples };
}

/** All metrics of a host. */
export function familiesOf(measured: readonly Measured[], leases: number): Family[] {
  const devices = measured.map(({ device }) => device);
  const pfs = devices.filter(({ isPf }) => isPf);
  const vfs = devices.filter(({ isPf }) => !isPf);
  const info = (device: Device) => ({ labels: infoLabels(device), value: 1 });
  const isUp = ({ link }: Device) => link !== undefined && (link.flags & IFF_UP) !== 0;
  return [
    gauge('pf_info', 'A PF, and who has it if it went into a pod itself. Always 1.', pfs.map(info)),
    gauge(
      'pf_up',
      'Whether the netdev of the PF is up.',
      pfs.map((pf) => ({ labels: labelsOf(pf), value: Number(isUp(pf)) })),
    ),
    gauge(
      'pf_vfs_limit',
      'How many VFs the PF can have.',
      pfs.map((pf) => ({ labels: labelsOf(pf), value: pf.vf.pf.totalVfs })),
    ),
    gauge(
      'pf_vfs',
      'VFs of the PF by state.',
      pfs.flatMap((pf) => {
        const own = vfs.filter(({ vf }) => vf.pf.pci === pf.vf.pci);
        return perState(vfStates, own, labelsOf(pf));
      }),
    ),
    gauge('vf_info', 'A VF, and who has it. Always 1.', vfs.map(info)),
    gauge(
      'vf_since_timestamp_seconds',
      'When whoever has the VF got it.',
      vfs.flatMap((vf) => timestamp(labelsOf(vf), vf.since)),
      'seconds',
    ),
    ...counted.map(([key, name, unit, help]): Family => {
      const samples = measured.flatMap((one) => samplesOf(one, key));
      return { name: `sriov_vf_${name}`, type: 'counter', unit, help, samples };
    }),
    gauge(
      'claims',
      'Claims by state: the pods of stale and held ones are gone.',
      perState(
        claimStates,
        devices.filter(({ claim, state }) => claim !== undefined || state === 'unreadable'),
        {},
      ),
    ),
    gauge('leases', 'Addresses that are still to be freed.', [{ labels: {}, value: leases }]),
    ...lastAdd(devices),
  ];
}

function perState(states: readonly State[], devices: readonly Device[], labels: Labels): Sample[] {
  return states.map((state) => ({
    labels: { ...labels, state },
    value: devices.filter((device) => device.state === state).length,
  }));
}

function samplesOf({ device, counters }: Measured, key: keyof Counters): Sample[] {
  return (['pf', 'netdev'] as const).flatMap((source) => {
    const value = counters[source]?.[key];
    return value === undefined ? [] : [{ labels: { ...labelsOf(device), source }, value }];
  });
}

/** What tells one device from all others. */
function labelsOf({ vf, isPf }: Device): Labels {
  const pf = vf.pf.ifname ?? vf.pf.pci;
  // Of an unreadable claim on a VF that is gone nobody knows the number.
  return isPf ? { pf, pci: vf.pci } : { pf, vf: vf.index < 0 ? '' : String(vf.index), pci: vf.pci };
}

function infoLabels(device: Device): Labels {
  const { vf, state, owner } = device;
  return { ...labelsOf(device), driver: vf.driver, state, ...ownerLabels(owner) };
}

function ownerLabels(owner: DeviceOwner | undefined): Labels {
  const { pod: path = '', containerName, containerId, ifname, network } = owner ?? {};
  const slash = path.indexOf('/');
  return {
    owner: nickname(owner),
    namespace: path.slice(0, Math.max(slash, 0)),
    pod: path.slice(slash + 1),
    container: containerName ?? containerId,
    interface: ifname,
    network,
  };
}

/** A time as its metric has it; none if it is not one. */
function timestamp(labels: Labels, iso8601: string | undefined): Sample[] {
  const ms = Date.parse(iso8601 ?? '');
  return Number.isNaN(ms) ? [] : [{ labels, value: ms / 1000 }];
}

/** The latest ADD whose VF is still attached: its claim has what each phase took. */
function lastAdd(devices: readonly Device[]): Family[] {
  const added = devices.filter(({ claim, state }) => claim?.times && state === 'attached');
  const [last] = added.sort((a, b) => (b.since ?? '').localeCompare(a.since ?? ''));
  return [
    gauge(
      'last_add_phase_seconds',
      'Time of each phase of the latest ADD whose VF is attached (sriov help inspect explains them).',
      Object.entries(last?.claim?.times ?? {}).map(([phase, ms]) => ({
        labels: { phase },
        value: Math.round(ms * 10) / 10_000,
      })),
      'seconds',
    ),
    gauge(
      'last_add_timestamp_seconds',
      'When that ADD was.',
      last ? timestamp({}, last.since) : [],
      'seconds',
    ),
  ];
}
