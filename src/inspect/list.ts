import { ipamType } from '../attach/ipam-plugin.ts';
import { type Lease, listLeases } from '../attach/lease.ts';
import type { Host } from '../vf/host.ts';
import { isNic, standsAlone } from '../vf/inventory.ts';
import { ownerName } from '../vf/owner.ts';
import type { VfSettings } from '../vf/settings.ts';
import type { Flags, Outcome } from './usage.ts';
import type { Device, State } from './device.ts';
import { survey } from './survey.ts';
import { type Cell, type Colour, formatAge, formatTable, type Style } from './table.ts';

/** `sriov list`: every PF, VF and NIC of the host, and whose it is. */
export async function list(host: Host, { json, style }: Flags): Promise<Outcome> {
  const devices = await survey(host);
  const leases = listLeases(host);
  if (json) {
    const all = [...devices.map(toJson), ...leases.map(leaseToJson)];
    return { exitCode: 0, stdout: `${JSON.stringify(all, undefined, 1)}\n` };
  }
  if (devices.length === 0)
    return {
      exitCode: 0,
      stdout: 'This host has no PCI network device (lspci -v shows its cards)\n',
    };
  const table = formatList(devices, style, Date.now());
  return { exitCode: 0, stdout: `${table}${formatLeases(leases, style, Date.now())}` };
}

/** RDMA has a column only where there is any. */
function header(hasRdma: boolean): string[] {
  const rdma = hasRdma ? ['RDMA'] : [];
  return ['DEVICE', 'VF', 'DRIVER', 'NETDEV', ...rdma, 'MAC', 'VLAN', 'STATE', 'SINCE', 'OWNER'];
}

const stateColours: Partial<Record<State, Colour>> = {
  free: 'green',
  attached: 'cyan',
  busy: 'yellow',
  stale: 'red',
  held: 'red',
  unreadable: 'red',
  gone: 'red',
  dpdk: 'magenta',
  foreign: 'yellow',
  down: 'yellow',
};

/** The table of `sriov list` and `sriov vfs`. */
export function formatList(devices: readonly Device[], style: Style, nowMs: number): string {
  const hasRdma = devices.some(({ rdma }) => rdma !== undefined);
  const rows = devices.map((device): Cell[] => {
    const { vf, isPf, state, since } = device;
    const colour: Colour | undefined = isPf ? 'bold' : undefined;
    const cell = (text: string | undefined) => ({ text: text || '-', colour });
    return [
      { text: standsAlone(vf) ? vf.pci : `  ${vf.pci}`, colour },
      { text: standsAlone(vf) ? '' : String(vf.index) },
      cell(vf.driver),
      cell(device.link?.ifname),
      ...(hasRdma ? [cell(device.rdma?.name)] : []),
      cell(macOf(device)),
      cell(isPf ? undefined : formatVlan(device.settings?.vlan)),
      { text: state, colour: stateColours[state] ?? colour },
      { text: since === undefined ? '-' : formatAge(since, nowMs) },
      { text: formatOwner(device) },
    ];
  });
  return formatTable(header(hasRdma), rows, style);
}

/** Addresses that are still to be freed; their VFs are free. */
function formatLeases(leases: readonly Lease[], style: Style, nowMs: number): string {
  if (leases.length === 0) return '';
  const rows = leases.map(({ name, claim, tries, lastError }) =>
    [
      name,
      ipamType(claim.request.config),
      `${tries}`,
      formatAge(claim.since, nowMs),
      `was ${ownerName(claim)} (${claim.owner.network}): ${lastError ?? ''}`,
    ].map((text) => ({ text: text ?? '-' })),
  );
  const title = 'Addresses not freed (sriov gc tries again, sriov release LEASE --force drops one):';
  const leaseHeader = ['LEASE', 'IPAM', 'TRIES', 'SINCE', 'OWNER AND ERROR'];
  return `\n${title}\n${formatTable(leaseHeader, rows, style)}`;
}

/** A lease as `--json` prints it. */
function leaseToJson({ name, claim, tries, lastError }: Lease): object {
  const { owner, since, vf } = claim;
  const { pod, containerId, ifname, network } = owner;
  return {
    lease: name,
    kind: 'lease',
    pci: vf.pci,
    owner: { pod, containerId, ifname, network },
    since,
    tries,
    lastError,
  };
}

/** The MAC that the VF goes by: its netdev's, else what its PF has for it. */
function macOf({ link, settings }: Device): string | undefined {
  const admin = settings?.mac === '00:00:00:00:00:00' ? undefined : settings?.mac;
  return link?.mac || admin;
}

/** "100", "100 p3", "100 p3 ad"; undefined for none */
export function formatVlan(vlan: VfSettings['vlan']): string | undefined {
  if (!vlan?.id) return undefined;
  return `${vlan.id}${vlan.qos ? ` p${vlan.qos}` : ''}${vlan.proto === '802.1ad' ? ' ad' : ''}`;
}

/** Who has a device, or why nobody else may. */
function formatOwner({ owner, state, why }: Device): string {
  if (!owner) return why ?? '';
  const container = owner.containerName ?? owner.containerId;
  const endpoint = owner.endpointId === undefined ? owner.netns : `Docker's endpoint ${owner.endpointId}`;
  const who = owner.pod ?? (container === undefined ? endpoint : `container ${container}`);
  const network = owner.network === undefined ? '' : ` (${owner.network})`;
  const whose = owner.by === 'sriov' ? '' : ', by the Go plugin';
  return `${state === 'attached' || state === 'busy' ? '' : 'was '}${who}${network}${whose}`;
}

/** What kind of device it is, and what only this kind has. */
function kindOf({ vf, isPf }: Device): object {
  if (isPf) return { kind: 'pf', numVfs: vf.pf.numVfs, totalVfs: vf.pf.totalVfs };
  if (isNic(vf)) return { kind: 'nic' };
  return { kind: 'vf', index: vf.index, pf: { pci: vf.pf.pci, ifname: vf.pf.ifname } };
}

/** A device as `--json` prints it. */
export function toJson(device: Device): object {
  const { vf, state, why, owner, since, link, netns, rdma, settings, holders } = device;
  return {
    pci: vf.pci,
    ...kindOf(device),
    driver: vf.driver,
    state,
    why,
    owner,
    since,
    netdev: link && { ifname: link.ifname, netns: netns || undefined, mac: link.mac, mtu: link.mtu },
    rdma,
    settings,
    holders: holders.length > 0 ? holders : undefined,
  };
}
