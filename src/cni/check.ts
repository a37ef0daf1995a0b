import { runIpam } from '../attach/ipam-plugin.ts';
import { openPodOf } from '../attach/pod.ts';
import { listAddresses } from '../kernel/address.ts';
import { AF_INET, AF_INET6 } from '../kernel/address.ts';
import { exists } from '../kernel/files.ts';
import { vfioDeviceFile } from '../dpdk/iommu.ts';
import { IFF_UP, type Link } from '../kernel/link-message.ts';
import type { Netns } from '../kernel/netns.ts';
import { boundDriver } from '../kernel/pci-driver.ts';
import { listRoutes, RT_TABLE_MAIN } from '../kernel/route.ts';
import { type PodClaim, isUserspace } from '../vf/claim.ts';
import { findClaims } from '../vf/claims.ts';
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
  const claims = findClaims(host, attachment.containerId, attachment.ifname);
  refuseIncomplete(claims, request);
  const drifts: { readonly pci: string; readonly drift: readonly string[] }[] = [];
  for (const claim of claims) {
    const drift = await deviceDrift(host, claim, expected, attachment.netns);
    if (drift.length > 0) drifts.push({ pci: claim.vf.pci, drift });
  }
  if (drifts.length > 0) {
    const messages = drifts.map(({ pci, drift }) => `VF ${pci} is not as it was attached: ${some(drift)}`);
    const details = drifts.flatMap(({ drift }) => drift).join('\n');
    throw new CniError(Code.Drifted, messages.join('; '), details);
  }
  const call = ipamCallOf(request);
  if (call) await runIpam('CHECK', call);
}

/** @throws CniError 103 */
function refuseIncomplete(
  claims: readonly PodClaim[],
  { attachment: { containerId, ifname } }: Request,
): void {
  const [first] = claims;
  const unfinished = claims.find(({ phase }) => phase !== 'attached');
  const missing = first?.bond && claims.length < 2 ? first.bond.other : undefined;
  if (first && !unfinished && missing === undefined) return;
  const what = unfinished
    ? `its VF ${unfinished.vf.pci} is not completely attached`
    : missing === undefined
      ? 'no VF is attached'
      : `VF ${missing}, the other one of its bond, is not attached`;
  throw new CniError(Code.Drifted, `Attachment ${ifname} of container ${containerId} is broken: ${what}`);
}

/** In what a device, or its part in a bond, is not what ADD made of it. */
async function deviceDrift(host: Host, claim: PodClaim, expected: Result, netns: string): Promise<string[]> {
  const attached = isUserspace(claim)
    ? userspaceDrift(host, claim, netns)
    : await netdevDrift(claim, expected, netns);
  const rdma = claim.rdma && !isUserspace(claim) ? await rdmaDrift(host, claim, claim.rdma, netns) : [];
  return [...attached, ...rdma, ...(await settingsDrift(host, claim, expected))];
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

/** An interface of ours in the expected result; its addresses are those that point to it. */
function ours(expected: Result, ifname: string) {
  const index = expected.interfaces.findIndex(
    ({ name, sandbox }) => name === ifname && (sandbox ?? '') !== '',
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
  const drift = linkDrift(link, expected, claim.podIfname);
  if (!claim.bond) return [...drift, ...(await interfaceDrift(pod, link, expected, claim))];
  const { bondOfSlave } = await import('../attach/bond.ts');
  const bond = await bondOfSlave(pod, link);
  if (!bond) return [...drift, `it is not in the bond "${claim.bond.ifname}"`];
  if (claim.vf.pci > claim.bond.other) return drift; // the bond is told of once
  // It goes by the MAC of whichever VF is active.
  const ofBond = linkDrift({ ...bond, mac: '' }, expected, claim.bond.ifname).map((text) => `bond: ${text}`);
  return [...drift, ...ofBond, ...(await interfaceDrift(pod, bond, expected, claim))];
}

/** In what a link is not what the result says of the interface that was called so. */
function linkDrift(link: Link, expected: Result, ifname: string): string[] {
  const drift: string[] = [];
  const differs = (what: string, is: string | number, was: string | number | null | undefined) => {
    if (was && is !== was) drift.push(`${what} is ${is}, was ${was}`);
  };
  const { found } = ours(expected, ifname);
  differs('interface name', link.ifname, ifname);
  if (link.mac !== '') differs('MAC', link.mac, found?.mac?.toLowerCase());
  differs('MTU', link.mtu, found?.mtu);
  if (!(link.flags & IFF_UP)) drift.push('link is down');
  return drift;
}

/** What the interface of the attachment has beside: that of a VF, or the bond. */
async function interfaceDrift(
  pod: Netns,
  link: Link,
  expected: Result,
  { modes, bond, podIfname }: PodClaim,
): Promise<string[]> {
  return [
    ...modesDrift(link.flags, modes),
    ...(await addressDrift(pod, link, expected, bond?.ifname ?? podIfname)),
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

async function addressDrift(pod: Netns, link: Link, expected: Result, ifname: string): Promise<string[]> {
  const { addresses } = toIpConfig({ ips: ours(expected, ifname).ips, routes: [] }, '"prevResult"');
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
  const { settings: is } = await awaitSettings(host, vf);
  const mac = ours(expected, claim.podIfname).found?.mac?.toLowerCase();
  // On some cards the PF reports what a later plugin has set on the netdev.
  const was =
    mac && claim.asked.mac && mac !== claim.asked.mac ? { ...claim.asked, mac: undefined } : claim.asked;
  return differences(is, was);
}
