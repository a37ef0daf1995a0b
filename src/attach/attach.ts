import { deviceInfoPath, readDeviceInfo, writeDeviceInfo } from '../dpdk/device-info.ts';
import { bindUserspace, loadDriver } from '../dpdk/driver.ts';
import { vfioDeviceFile } from '../dpdk/iommu.ts';
import type { FileLock } from '../kernel/files.ts';
import type { Link } from '../kernel/link.ts';
import type { Phases } from '../kernel/log.ts';
import type { Netns } from '../kernel/netns.ts';
import { driverOverride } from '../kernel/pci-driver.ts';
import { configureIp, type IpConfig, prepareLink } from '../vf/addressing.ts';
import { announce } from '../vf/announce.ts';
import { type Claim, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, type Vf } from '../vf/inventory.ts';
import { formatIp } from '../vf/ip.ts';
import { carryMac, moveIntoPod, netdevState } from '../vf/netdev.ts';
import { applySettings, flat } from '../vf/settings.ts';
import { choose } from './choose.ts';
import { Failure, IpamRefused, messageOf } from './failure.ts';
import { ipamType, savedConfig } from './ipam-plugin.ts';
import { startFreeing, writeLease } from './lease.ts';
import { makePlan, noNetdev, type Plan, refuseUnfit } from './plan.ts';
import { openPodFor, refuseTakenName } from './pod.ts';
import { release } from './release.ts';
import { refuseRepeated, refuseRival } from './repeated.ts';
import type { Caller, Order } from './wish.ts';

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
  using chosen = await choose(host, wish, caller);
  phases.end('choice');
  const { vf, lock } = chosen;
  const plan = await makePlan(host, wish, vf);
  refuseUnfit(host, wish, attachment, ipamType(request.config), vf, plan);
  if (plan.userspace !== undefined) loadDriver(host.sys, vf, plan.userspace);
  phases.end('plan');
  const claim = claimFor(host, order, pod, vf, plan, deviceInfoFile);
  writeClaim(host, claim, true);
  phases.end('claim');
  try {
    refuseRival(host, claim);
    using pending = order.addresses?.(lock);
    await programPf(host, vf, plan);
    phases.end('settings');
    const link = await handOver(host, pod, vf, plan, order, claim);
    phases.end('device');
    const addresses = pending?.result();
    phases.end('ipam');
    if (link && addresses) await configureAddresses(host, pod, vf, link, addresses);
    phases.end('addresses');
    if (deviceInfoFile !== undefined) tellDevice(host, deviceInfoFile, vf, plan);
    const output = answer({
      pci: vf.pci,
      link,
      mac: link?.mac ?? plan.wanted.mac,
      mtu: link?.mtu ?? wish.mtu ?? (plan.link ?? plan.pf)?.mtu,
      addresses,
    });
    phases.end('result');
    writeClaim(host, { ...claim, phase: 'attached', times: phases.ms }, false);
    host.log.debug('phases in ms', phases.ms);
    return output;
  } catch (error) {
    host.log.debug('phases in ms, until it failed', phases.ms);
    throw await rollBack(host, claim, lock, caller, error);
  }
}

/** The record of what is about to be changed: whose the VF will be, and what it is like now. */
function claimFor<A extends IpConfig>(
  host: Host,
  { attachment, wish, request }: Order<A>,
  pod: Netns,
  vf: Vf,
  { settings, link, userspace, wanted }: Plan,
  deviceInfoFile: string | undefined,
): Claim {
  const driver = userspace ?? (wish.dpdk && (vf.driver ?? ''));
  return {
    version: 1,
    phase: 'adding',
    since: new Date().toISOString(),
    vf: { pci: vf.pci, index: vf.index, pf: { pci: vf.pf.pci, ifname: vf.pf.ifname } },
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
    dpdk: driver === undefined ? undefined : { driver, override: driverOverride(host.sys, vf.pci) },
    asked: wanted,
    original: { driver: vf.driver, settings, netdev: link && netdevState(link) },
  };
}

async function programPf(host: Host, vf: Vf, { pf, wanted }: Plan): Promise<void> {
  if (!pf) return;
  const fields = { vf: vf.pci, pf: vf.pf.ifname, ...flat(wanted) };
  await host.log.change('PF settings programmed', fields, () =>
    applySettings(host.netns.rtnl, pf.ifindex, vf, wanted),
  );
}

/** Puts the netdev into the pod, with its MAC and up; or the VF into the hands of a userspace driver. */
async function handOver<A extends IpConfig>(
  host: Host,
  pod: Netns,
  vf: Vf,
  { link, userspace, wanted: { mac } }: Plan,
  { wish: { podIfname, mtu, routersGive } }: Order<A>,
  { dpdk }: Claim,
): Promise<Link | undefined> {
  if (userspace !== undefined) {
    if (userspace === vf.driver) return undefined;
    const fields = { vf: vf.pci, from: vf.driver, driver: userspace };
    await host.log.change('VF bound to a userspace driver', fields, () =>
      bindUserspace(host.sys, vf, userspace, dpdk?.override),
    );
    const file = vfioDeviceFile(host.sys, vf.pci);
    host.log.info('a container needs its device file', { vf: vf.pci, file });
    return undefined;
  }
  if (!link) throw new NotUsable(noNetdev(vf));
  const netdev = mac === undefined ? link : await carryMac(host, vf, link, mac);
  const fields = { vf: vf.pci, hostIfname: netdev.ifname };
  const moved = await host.log.change('netdev moved into the pod', fields, () =>
    moveIntoPod(host, pod, vf, netdev, podIfname, mtu),
  );
  prepareLink(pod, moved.ifname, routersGive);
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

/** Undoes an attachment that failed. The error stays the first one; what could not be undone is in its details. */
async function rollBack(
  host: Host,
  claim: Claim,
  lock: FileLock,
  caller: Caller,
  error: unknown,
): Promise<unknown> {
  // A plugin that gave no address has none to free, and one that cannot work at all (its daemon is down, the version is not its own) would
  // refuse that, too. It may all the same have taken one of two: so it is asked, once (SPEC.md 1.1.0, section 4), but nothing waits for it.
  const isRefused = error instanceof IpamRefused;
  const request = isRefused ? { ...claim.request, config: {} } : claim.request;
  try {
    await release(host, { ...claim, request }, lock, caller);
    if (isRefused) freeOnce(host, claim, caller);
    return error;
  } catch (undo) {
    const message = `${messageOf(error)}; and the VF could not be given back: ${messageOf(undo)}`;
    const details = undo instanceof Failure ? undo.details : undefined;
    return new Failure('incomplete', message, details, { cause: error });
  }
}

/** Should that fail, gc tries it again. */
function freeOnce(host: Host, claim: Claim, { env }: Caller): void {
  try {
    startFreeing(host, claim, { env })();
  } catch (error) {
    keepUncertain(host, claim, error);
  }
}

function keepUncertain(host: Host, claim: Claim, cause: unknown): void {
  const message = `IPAM plugin refused to free what it may have given: ${messageOf(cause)}`;
  host.log.warning(message);
  try {
    writeLease(host, claim, new Failure('incomplete', message, undefined, { cause }), true);
  } catch (error) {
    host.log.warning('lease not written', { error: messageOf(error) }); // the VF is back, and there need be no address
  }
}
