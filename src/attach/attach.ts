import { deviceInfoPath, readDeviceInfo, writeDeviceInfo } from '../dpdk/device-info.ts';
import type { Link } from '../kernel/link.ts';
import type { Phases } from '../kernel/log.ts';
import type { Netns } from '../kernel/netns.ts';
import { configureIp, type IpConfig, prepareLink } from '../vf/addressing.ts';
import { announce } from '../vf/announce.ts';
import { type PodClaim, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import type { Vf } from '../vf/inventory.ts';
import { formatIp } from '../vf/ip.ts';
import { moveIntoPod } from '../vf/netdev.ts';
import { IpamRefused } from './failure.ts';
import { ipamType, savedConfig } from './ipam-plugin.ts';
import type { Plan } from './plan.ts';
import { openPodFor, refuseTakenName } from './pod.ts';
import { makeReady, recordOf, rollBack, type Taken, takeDevice } from './ready.ts';
import { refuseRepeated, refuseRival } from './repeated.ts';
import type { Order } from './wish.ts';

/** What was attached, for the door's answer. */
export interface Attached<A extends IpConfig> {
  readonly pci: string;
  /** The interface in the pod; undefined where a process drives the VF. */
  readonly link: Link | undefined;
  readonly mac: string | undefined;
  readonly mtu: number | undefined;
  readonly addresses: A | undefined;
}

/**
 * Attaches a VF to a pod. Everything that can be refused is refused before the claim is written; from then on, whatever fails is undone.
 * @param answer makes the door's answer; if it throws, the attachment is undone, too
 */
export async function attach<A extends IpConfig>(
  host: Host,
  order: Order<A>,
  phases: Phases,
  answer: (attached: Attached<A>) => string,
): Promise<string> {
  const { attachment, wish, request, caller } = order;
  const deviceInfoFile = wish.deviceInfoFile === undefined ? undefined : deviceInfoPath(wish.deviceInfoFile);
  using pod = openPodFor(host, attachment.netns);
  await refuseRepeated(host, attachment, caller); // first: an ADD that died can have left the name in the pod
  await refuseTakenName(pod, wish.podIfname);
  phases.end('request');
  const ipam = ipamType(request.config);
  using taken = await takeDevice(host, wish, attachment.containerId, ipam, caller, phases);
  const { vf, lock, plan } = taken;
  const claim = claimFor(host, order, pod, taken, deviceInfoFile);
  writeClaim(host, claim, true);
  phases.end('claim');
  try {
    refuseRival(host, claim);
    using pending = order.addresses?.(lock);
    const netdev = await makeReady(host, taken, claim, phases);
    // Without a netdev there is none either: a process is to drive the VF.
    const rdma =
      netdev && claim.rdma
        ? await (await import('./rdma-transfer.ts')).handOverRdma(host, pod, vf, claim.rdma, wish)
        : claim.rdma;
    const link = netdev && (await handOver(host, pod, vf, netdev, order));
    phases.end('device');
    const addresses = pending?.result();
    phases.end('ipam');
    if (link && addresses) await configureAddresses(host, pod, vf, link, addresses);
    phases.end('addresses');
    if (deviceInfoFile !== undefined) tellDevice(host, deviceInfoFile, vf, plan);
    const output = answer({
      pci: vf.pci,
      link,
      mac: link?.mac ?? plan.wanted.mac ?? plan.link?.permMac,
      mtu: link?.mtu ?? wish.mtu ?? (plan.link ?? plan.pf)?.mtu,
      addresses,
    });
    phases.end('result');
    writeClaim(host, { ...claim, rdma, phase: 'attached', times: phases.ms }, false);
    host.log.debug('phases in ms', phases.ms);
    return output;
  } catch (error) {
    host.log.debug('phases in ms, until it failed', phases.ms);
    // A plugin that gave no address has none to free, and one that cannot work at all (its daemon is down, the version is not its own) refuses
    // that, too. It may all the same have taken one of two: so it is asked (SPEC.md 1.1.0, section 4).
    const undone = error instanceof IpamRefused ? { ...claim, isAddressUncertain: true } : claim;
    throw await rollBack(host, undone, lock, caller, error);
  }
}

/** The record of what is about to be changed: whose the VF will be, and what it is like now. */
function claimFor<A extends IpConfig>(
  host: Host,
  { attachment, wish, request }: Order<A>,
  pod: Netns,
  taken: Taken,
  deviceInfoFile: string | undefined,
): PodClaim {
  return {
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
    podIfname: wish.podIfname,
    deviceInfoFile,
    request: { ...request, config: savedConfig(request.config) },
    ...recordOf(host, wish, taken),
  };
}

/** Puts the netdev into the pod, up. */
async function handOver<A extends IpConfig>(
  host: Host,
  pod: Netns,
  vf: Vf,
  netdev: Link,
  { wish }: Order<A>,
): Promise<Link> {
  const fields = { vf: vf.pci, hostIfname: netdev.ifname };
  const moved = await host.log.change('netdev moved into the pod', fields, () =>
    moveIntoPod(host, pod, vf, netdev, wish.podIfname, wish),
  );
  prepareLink(pod, moved.ifname, wish.routersGive);
  return moved;
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
  await host.log.change('addresses configured', fields, () => configureIp(pod, link, config));
  try {
    const ips = config.addresses.map(({ bytes }) => bytes);
    announce(pod, link, ips);
  } catch (error) {
    host.log.warning('addresses not announced', { error: String(error) }); // neighbours find out by themselves, later
  }
}

function tellDevice(host: Host, file: string, vf: Vf, { userspace }: Plan): void {
  writeDeviceInfo(file, readDeviceInfo(host.sys, vf, userspace !== undefined));
  host.log.info('device-info file written', { vf: vf.pci, file });
}
