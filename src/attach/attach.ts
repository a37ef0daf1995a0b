import { deviceInfoPath, readDeviceInfo, writeDeviceInfo } from '../dpdk/device-info.ts';
import type { Link } from '../kernel/link-message.ts';
import type { Phases } from '../kernel/log.ts';
import type { Netns } from '../kernel/netns.ts';
import { configureIp, type IpConfig, prepareLink } from '../vf/addressing.ts';
import { announce } from '../vf/announce.ts';
import type { PodClaim } from '../vf/claim.ts';
import { writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import type { Vf } from '../vf/inventory.ts';
import { formatIp } from '../vf/ip.ts';
import { lentName } from '../vf/loan.ts';
import { moveIntoPod } from '../vf/netdev.ts';
import { IpamRefused } from './failure.ts';
import { ipamType, savedConfig } from './ipam-plugin.ts';
import type { Plan } from './plan.ts';
import { openPodFor, refuseTakenName } from './pod.ts';
import { type AllTaken, makeReady, recordOf, rollBack, type Taken, takeDevice } from './ready.ts';
import { refuseRepeated, refuseRival } from './repeated.ts';
import type { Order, Wish } from './wish.ts';

/** What was attached, for the door's answer. */
export interface Attached<A extends IpConfig> {
  readonly pci: string;
  /** The interface in the pod; undefined where a process drives the VF. */
  readonly link: Link | undefined;
  /** Where that is a bond, the VFs in it. */
  readonly slaves: readonly { readonly vf: Vf; readonly link: Link }[];
  readonly mac: string | undefined;
  readonly mtu: number | undefined;
  readonly addresses: A | undefined;
}

/**
 * Attaches a VF to a pod, or two of them as a bond. Everything that can be refused is refused before the claims are written; from then on,
 * whatever fails is undone.
 * @param answer makes the door's answer; if it throws, the attachment is undone, too
 */
export async function attach<A extends IpConfig>(
  host: Host,
  order: Order<A>,
  phases: Phases,
  answer: (attached: Attached<A>) => string,
): Promise<string> {
  const { attachment, wish, caller } = order;
  const deviceInfoFile = wish.deviceInfoFile === undefined ? undefined : deviceInfoPath(wish.deviceInfoFile);
  const bonding = wish.bond && (await import('./bond.ts'));
  using pod = openPodFor(host, attachment.netns);
  await refuseRepeated(host, attachment, caller); // first: an ADD that died can have left the name in the pod
  await refuseTakenName(pod, wish.podIfname);
  phases.end('request');
  using taken = await takeAll(host, order, phases, bonding?.takeBoth);
  const { parts, first, second } = claimed(host, order, pod, taken, deviceInfoFile);
  if (second) for (const { claim } of parts) await refuseTakenName(pod, claim.podIfname);
  writeClaim(host, first.claim, true);
  try {
    if (second) writeClaim(host, second.claim, true);
    phases.end('claim');
    refuseRival(host, first.claim);
    using pending = order.addresses?.(first.device.lock);
    const bond = await bonding?.makeBond(host, pod, wish, parts);
    const given: Given[] = [];
    for (const part of parts) given.push(await giveDevice(host, pod, part, wish, phases, bond));
    const slaves = bond ? given.flatMap(({ vf, link }) => (link ? [{ vf, link }] : [])) : [];
    const link = bond ? await bonding?.startBond(pod, bond, wish, slaves) : given[0]?.link;
    if (link) prepareLink(pod, link.ifname, wish.routersGive);
    phases.end('device');
    const addresses = await pending?.result();
    phases.end('ipam');
    const { vf, plan } = first.device;
    if (link && addresses) await configureAddresses(host, pod, vf, link, addresses);
    phases.end('addresses');
    if (deviceInfoFile !== undefined) tellDevice(host, deviceInfoFile, vf, plan);
    const output = answer({
      pci: vf.pci,
      link,
      slaves,
      mac: link?.mac ?? plan.wanted.mac ?? plan.link?.permMac,
      mtu: link?.mtu ?? wish.mtu ?? (plan.link ?? plan.pf)?.mtu,
      addresses,
    });
    phases.end('result');
    for (const { claim } of given) writeClaim(host, { ...claim, phase: 'attached', times: phases.ms }, false);
    host.log.debug('phases in ms', phases.ms);
    return output;
  } catch (error) {
    host.log.debug('phases in ms, until it failed', phases.ms);
    // A plugin that gave no address has none to free, and one that cannot work at all (its daemon is down, the version is not its own) refuses
    // that, too. It may all the same have taken one of two: so it is asked (SPEC.md 1.1.0, section 4).
    const isAddressUncertain = error instanceof IpamRefused ? true : undefined;
    let failure = error;
    for (const { device, claim } of parts)
      failure = await rollBack(host, { ...claim, isAddressUncertain }, device.lock, caller, failure);
    throw failure;
  }
}

/** The device of an attachment, or both of a bond. */
async function takeAll<A extends IpConfig>(
  host: Host,
  { attachment, wish, request, caller }: Order<A>,
  phases: Phases,
  takeBoth: typeof import('./bond.ts').takeBoth | undefined,
): Promise<AllTaken> {
  const ipam = ipamType(request.config);
  if (takeBoth) return takeBoth(host, wish, attachment.containerId, ipam, caller, phases);
  const first = await takeDevice(host, wish, attachment.containerId, ipam, caller, phases);
  return { first, second: undefined, [Symbol.dispose]: () => first[Symbol.dispose]() };
}

/** A device and the record of what is about to be changed of it. */
interface Part {
  readonly device: Taken;
  readonly claim: PodClaim;
}

/** The record of what is about to be changed: whose the VF will be, and what it is like now. One of them has what is there once: the address. */
function claimed<A extends IpConfig>(
  host: Host,
  { attachment, wish, request }: Order<A>,
  pod: Netns,
  { first, second }: AllTaken,
  deviceInfoFile: string | undefined,
): { parts: readonly Part[]; first: Part; second: Part | undefined } {
  const claim = (device: Taken, other: Taken | undefined): PodClaim => ({
    version: 1,
    phase: 'adding',
    owner: {
      network: wish.network,
      containerId: attachment.containerId,
      ifname: attachment.ifname,
      netns: { path: attachment.netns, ...pod.identity },
      bootId: host.bootId,
      pod: wish.pod,
      containerName: wish.containerName,
    },
    podIfname: other ? lentName(device.vf.pci) : wish.podIfname,
    bond: other && { ifname: wish.podIfname, other: other.vf.pci },
    deviceInfoFile: device === first ? deviceInfoFile : undefined,
    request: { ...request, config: device === first ? savedConfig(request.config) : {} },
    ...recordOf(host, wish, device),
  });
  const firstPart = { device: first, claim: claim(first, second) };
  const secondPart = second && { device: second, claim: claim(second, first) };
  const parts = secondPart ? [firstPart, secondPart] : [firstPart];
  return { parts, first: firstPart, second: secondPart };
}

/** A device that its pod has. */
interface Given {
  readonly vf: Vf;
  readonly link: Link | undefined;
  readonly claim: PodClaim;
}

/** Makes a device ready, and puts its netdev into the pod: up, or into the bond. */
async function giveDevice(
  host: Host,
  pod: Netns,
  { device, claim }: Part,
  wish: Wish,
  phases: Phases,
  bond: Link | undefined,
): Promise<Given> {
  const { vf } = device;
  const netdev = await makeReady(host, device, claim, phases);
  // Without a netdev there is none either: a process is to drive the VF.
  if (!netdev) return { vf, link: undefined, claim };
  const rdma =
    claim.rdma && (await (await import('./rdma-transfer.ts')).handOverRdma(host, pod, vf, claim.rdma, wish));
  const fields = { vf: vf.pci, hostIfname: netdev.ifname };
  const modes = bond ? undefined : wish.modes;
  const link = await host.log.change('netdev moved into the pod', fields, () =>
    moveIntoPod(host, pod, vf, netdev, claim.podIfname, { mtu: wish.mtu, modes }, bond?.ifindex),
  );
  return { vf, link, claim: { ...claim, rdma } };
}

async function configureAddresses(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link,
  config: IpConfig,
): Promise<void> {
  const texts = config.addresses.map(({ bytes, prefixLength }) => `${formatIp(bytes)}/${prefixLength}`);
  const fields = { vf: vf.pci, addresses: texts.join(' ') };
  const known = await host.log.change('addresses configured', fields, () => configureIp(pod, link, config));
  try {
    announce(pod, link, known);
  } catch (error) {
    host.log.warning('addresses not announced', { error: String(error) }); // neighbours find out by themselves, later
  }
}

function tellDevice(host: Host, file: string, vf: Vf, { userspace }: Plan): void {
  writeDeviceInfo(file, readDeviceInfo(host.sys, vf, userspace !== undefined));
  host.log.info('device-info file written', { vf: vf.pci, file });
}
