import { runIpam } from '../attach/ipam-plugin.ts';
import { openPodOf } from '../attach/pod.ts';
import { listAddresses } from '../kernel/address.ts';
import { AF_INET, AF_INET6 } from '../kernel/address.ts';
import { exists } from '../kernel/files.ts';
import { vfioDeviceFile } from '../dpdk/iommu.ts';
import { IFF_UP, type Link } from '../kernel/link.ts';
import type { Netns } from '../kernel/netns.ts';
import { boundDriver } from '../kernel/pci-driver.ts';
import { listRoutes, RT_TABLE_MAIN } from '../kernel/route.ts';
import { type PodClaim, findClaims, isUserspace } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { readVf } from '../vf/inventory.ts';
import { formatIp } from '../vf/ip.ts';
import { modesDrift } from '../vf/modes.ts';
import { findInPod } from '../vf/netdev.ts';
import { awaitSettings, differences } from '../vf/settings.ts';
import { Code, CniError } from './errors.ts';
import { ipamCallOf } from './ipam.ts';
import type { Request } from './request.ts';
import { parseResult, type Result, toIpConfig } from './result.ts';
import { parseVersion } from './versions.ts';

/**
 * CHECK: is the attachment still what ADD made of it? Compared with prevResult where that tells,
 * since a later plugin of the chain may have changed MAC or MTU by right.
 * @throws CniError 103 naming every difference
 */
export async function check(host: Host, request: Request): Promise<void> {
  const { attachment } = request;
  const expected = expectedResult(request);
  const [claim] = findClaims(host, attachment.containerId, attachment.ifname);
  if (claim?.phase !== 'attached') {
    const what = claim ? `its VF ${claim.vf.pci} is not completely attached` : 'no VF is attached';
    throw new CniError(
      Code.Drifted,
      `Attachment ${attachment.ifname} of container ${attachment.containerId} is broken: ${what}`,
    );
  }
  const attached = isUserspace(claim)
    ? userspaceDrift(host, claim, attachment.netns)
    : await netdevDrift(claim, expected, attachment.netns);
  const rdma =
    claim.rdma && !isUserspace(claim) ? await rdmaDrift(host, claim, claim.rdma, attachment.netns) : [];
  const drift = [...attached, ...rdma, ...(await settingsDrift(host, claim, expected))];
  if (drift.length > 0) {
    throw new CniError(
      Code.Drifted,
      `VF ${claim.vf.pci} is not as it was attached: ${some(drift)}`,
      drift.join('\n'),
    );
  }
  const call = ipamCallOf(request);
  if (call) runIpam('CHECK', call);
}

const maxNamed = 10;

/** The first of many differences: a result may have thousands of routes. */
function some(drift: readonly string[]): string {
  const more = drift.length - maxNamed;
  return [...drift.slice(0, maxNamed), ...(more > 0 ? [`${more} more`] : [])].join('; ');
}

/** @throws CniError 7 */
function expectedResult({ config }: Request): Result {
  if (config['prevResult'] === undefined || config['prevResult'] === null) {
    throw new CniError(
      Code.InvalidConfig,
      'Invalid network configuration: "prevResult" is missing: CHECK needs it',
    );
  }
  return parseResult(config['prevResult'], parseVersion(config['cniVersion']), '"prevResult"');
}

/** Our interface in the expected result; its addresses are those that point to it. */
function ours(expected: Result, claim: PodClaim) {
  const index = expected.interfaces.findIndex(
    ({ name, sandbox }) => name === claim.podIfname && (sandbox ?? '') !== '',
  );
  const found = expected.interfaces[index];
  return { found, ips: expected.ips.filter((ip) => found === undefined || ip.interface === index) };
}

function userspaceDrift(host: Host, claim: PodClaim, netns: string): string[] {
  const { pci } = claim.vf;
  const drift: string[] = [];
  using pod = openPodOf(claim, netns);
  if (!pod) drift.push(`the network namespace "${claim.owner.netns.path}" is not the one it was attached to`);
  const driver = boundDriver(host.sys, pci);
  if (driver !== claim.dpdk?.driver)
    drift.push(`driver is ${driver ?? 'missing'}, was ${claim.dpdk?.driver}`);
  else if (driver === 'vfio-pci') {
    const file = vfioDeviceFile(host.sys, pci);
    if (file === undefined || !exists(file))
      drift.push(`its device file ${file ?? '/dev/vfio/GROUP'} is missing`);
  }
  return drift;
}

async function netdevDrift(claim: PodClaim, expected: Result, netns: string): Promise<string[]> {
  if (!claim.original.netdev) return [];
  const { path } = claim.owner.netns;
  using pod = openPodOf(claim, netns);
  if (!pod) return [`the network namespace "${path}" is not the one it was attached to`];
  const link = await findInPod(pod, claim.vf.pci, claim.podIfname);
  if (!link) return [`it is not in the pod's namespace "${path}"`];
  const drift: string[] = [];
  const differs = (what: string, is: string | number, was: string | number | null | undefined) => {
    if (was && is !== was) drift.push(`${what} is ${is}, was ${was}`);
  };
  const { found } = ours(expected, claim);
  differs('interface name', link.ifname, claim.podIfname);
  differs('MAC', link.mac, found?.mac?.toLowerCase());
  differs('MTU', link.mtu, found?.mtu);
  if (!(link.flags & IFF_UP)) drift.push('link is down');
  return [
    ...drift,
    ...modesDrift(link.flags, claim.modes),
    ...(await addressDrift(pod, link, expected, claim)),
    ...(await routeDrift(pod, expected)),
  ];
}

async function rdmaDrift(
  host: Host,
  claim: PodClaim,
  record: NonNullable<PodClaim['rdma']>,
  netns: string,
): Promise<string[]> {
  using pod = record.moves ? openPodOf(claim, netns) : undefined;
  if (record.moves && !pod) return []; // told of the netdev
  const { rdmaDifferences } = await import('../rdma/rdma-move.ts');
  return await rdmaDifferences(host, pod ?? host.netns, claim.vf.pci, record);
}

async function addressDrift(pod: Netns, link: Link, expected: Result, claim: PodClaim): Promise<string[]> {
  const { addresses } = toIpConfig({ ips: ours(expected, claim).ips, routes: [] }, '"prevResult"');
  const present = (await listAddresses(pod.rtnl)).filter((address) => address.ifindex === link.ifindex);
  const text = (a: { bytes: Uint8Array; prefixLength: number }) => `${formatIp(a.bytes)}/${a.prefixLength}`;
  const texts = new Set(present.map(text));
  return addresses
    .filter((address) => !texts.has(text(address)))
    .map((address) => `address ${text(address)} is missing`);
}

async function routeDrift(pod: Netns, expected: Result): Promise<string[]> {
  if (expected.routes.length === 0) return [];
  const { routes } = toIpConfig({ ips: [], routes: expected.routes }, '"prevResult"');
  const present = [...(await listRoutes(pod.rtnl, AF_INET)), ...(await listRoutes(pod.rtnl, AF_INET6))];
  type Shown = Pick<(typeof present)[number], 'dst' | 'prefixLength' | 'table' | 'gateway'>;
  const text = (r: Shown) => `${formatIp(r.dst)}/${r.prefixLength}`;
  const place = (r: Shown) => `${text(r)} ${r.table ?? RT_TABLE_MAIN}`;
  const through = (r: Shown) => (r.gateway ? ` through ${formatIp(r.gateway)}` : '');
  // A route that was asked for without a gateway may have got one.
  const places = new Set(present.flatMap((r) => [place(r), `${place(r)}${through(r)}`]));
  return routes
    .filter((wanted) => !places.has(`${place(wanted)}${through(wanted)}`))
    .map((route) => `route ${text(route)}${through(route)} is missing`);
}

async function settingsDrift(host: Host, claim: PodClaim, expected: Result): Promise<string[]> {
  if (Object.keys(claim.asked).length === 0 || claim.vf.pf.pci === claim.vf.pci) return [];
  const vf = readVf(host.sys, claim.vf.pci);
  if (!vf) return ['the VF does not exist any more'];
  const { settings: is } = await awaitSettings(host.netns.rtnl, vf);
  const mac = ours(expected, claim).found?.mac?.toLowerCase();
  // On some cards the PF reports what a later plugin has set on the netdev.
  const was =
    mac && claim.asked.mac && mac !== claim.asked.mac ? { ...claim.asked, mac: undefined } : claim.asked;
  return differences(is, was);
}
