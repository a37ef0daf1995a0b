import { deviceInfoPath, readDeviceInfo, writeDeviceInfo } from '../dpdk/device-info.ts';
import { bindUserspace, loadDriver, type UserspaceDriver } from '../dpdk/driver.ts';
import { vfioDeviceFile } from '../dpdk/iommu.ts';
import { Errno, isErrno } from '../kernel/errno.ts';
import type { FileLock } from '../kernel/files.ts';
import { getLinkByName, type Link } from '../kernel/link.ts';
import { Phases } from '../kernel/log.ts';
import { isSameNetns, Netns } from '../kernel/netns.ts';
import { driverOverride } from '../kernel/pci-driver.ts';
import { configureIp, prepareLink } from '../vf/addressing.ts';
import { announce } from '../vf/announce.ts';
import { type Claim, writeClaim } from '../vf/claims.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, type Vf } from '../vf/inventory.ts';
import { carryMac, moveIntoPod, netdevState } from '../vf/netdev.ts';
import { applySettings, type VfSettings } from '../vf/settings.ts';
import { choose } from './choose.ts';
import { type NetConf, parseConfig } from './config.ts';
import { toCniError } from './error-codes.ts';
import { Code, CniError } from './errors.ts';
import { IpamAdd, type IpamCall, ipamCall, IpamRefused } from './ipam.ts';
import { makePlan, noNetdev, refuseUnfit } from './plan.ts';
import { flat, release } from './release.ts';
import type { Request } from './request.ts';
import { formatResult, parseResult, type Result, toIpConfig } from './result.ts';

/** ADD: attaches a VF to a pod and returns the CNI result as JSON. Whatever fails after the claim is written is undone. */
export async function add(host: Host, request: Request): Promise<string> {
  const { attachment, env, config } = request;
  const { log } = host;
  const phases = new Phases();
  phases.end('start');
  const conf = parseConfig(request);
  for (const note of conf.notes) log.info(note);
  const previous = previousResult(request, conf);
  if (!conf.hasIpam) refuseInexpressible(previous, conf);
  const ipamPlugin = conf.hasIpam ? ipamCall(config, attachment, env) : undefined;
  const deviceInfoFile = conf.deviceInfoFile === undefined ? undefined : deviceInfoPath(conf.deviceInfoFile);
  using pod = openPodNetns(host, attachment.netns);
  await refuseTakenName(pod, conf.podIfname);

  phases.end('request');
  using chosen = await choose(host, conf, env);
  phases.end('choice');
  const { vf, lock } = chosen;
  const plan = await makePlan(host, conf, vf);
  refuseUnfit(host, conf, request, vf, plan);
  const { userspace, wanted } = plan;
  if (userspace !== undefined) loadDriver(host.sys, vf, userspace);
  phases.end('plan');
  const claim: Claim = {
    version: 1,
    phase: 'adding',
    since: new Date().toISOString(),
    vf: { pci: vf.pci, index: vf.index, pf: { pci: vf.pf.pci, ifname: vf.pf.ifname } },
    owner: {
      network: conf.name,
      containerId: attachment.containerId,
      ifname: attachment.ifname,
      netns: { path: attachment.netns, ...pod.identity },
      bootId: host.bootId,
      pod: conf.pod,
    },
    podIfname: conf.podIfname,
    deviceInfoFile,
    request: {
      config: conf.hasIpam ? config : { ...config, ipam: undefined },
      cniArgs: attachment.cniArgs,
      cniPath: attachment.cniPath,
    },
    dpdk: (userspace ?? conf.dpdk) && {
      driver: userspace ?? vf.driver ?? '',
      override: driverOverride(host.sys, vf.pci),
    },
    asked: wanted,
    original: { driver: vf.driver, settings: plan.settings, netdev: plan.link && netdevState(plan.link) },
  };
  writeClaim(host, claim, true);
  phases.end('claim');
  try {
    using ipam = ipamPlugin && new IpamAdd(ipamPlugin, lock);
    if (plan.pf) {
      const { ifindex } = plan.pf;
      const fields = { vf: vf.pci, pf: vf.pf.ifname, ...flat(wanted) };
      await log.change('PF settings programmed', fields, () =>
        applySettings(host.netns.rtnl, ifindex, vf, wanted),
      );
    }
    phases.end('settings');
    let link: Link | undefined;
    if (userspace === undefined) link = await intoPod(host, pod, vf, plan.link, wanted, conf);
    else if (userspace !== vf.driver) await bind(host, vf, userspace, claim.dpdk?.override);
    phases.end('device');
    const addresses = ipam?.result();
    phases.end('ipam');
    if (link && addresses) await configureAddresses(host, pod, vf, link, addresses);
    phases.end('addresses');
    if (deviceInfoFile !== undefined) {
      writeDeviceInfo(deviceInfoFile, readDeviceInfo(host.sys, vf, userspace !== undefined));
      log.info('device-info file written', { vf: vf.pci, file: deviceInfoFile });
    }
    const ours = {
      name: conf.podIfname,
      mac: link?.mac ?? wanted.mac,
      mtu: link?.mtu ?? conf.mtu ?? (plan.link ?? plan.pf)?.mtu,
      sandbox: attachment.netns,
      pciID: vf.pci,
    };
    const output = formatResult(withOurs(previous, ours, addresses), conf.cniVersion);
    phases.end('result');
    writeClaim(host, { ...claim, phase: 'attached', times: phases.ms }, false);
    log.debug('phases in ms', phases.ms);
    return output;
  } catch (error) {
    log.debug('phases in ms, until it failed', phases.ms);
    throw await rollBack(host, claim, lock, env, error);
  }
}

/** The result of the plugins before us in a chain; an empty one if we are the first. @throws CniError 6 */
function previousResult({ config }: Request, { cniVersion }: NetConf): Result {
  const given = config['prevResult'];
  if (given === undefined || given === null) return { interfaces: [], ips: [], routes: [], dns: {} };
  return parseResult(given, cniVersion, 'the plugin before ("prevResult")');
}

/** @throws CniError 2 for what will end in a result that the version cannot express, whatever happens from now on */
function refuseInexpressible(previous: Result, { cniVersion }: NetConf): void {
  formatResult(previous, cniVersion);
}

/** @throws CniError 3, 8 */
function openPodNetns(host: Host, path: string): Netns {
  let pod: Netns;
  try {
    pod = Netns.open(path);
  } catch (error) {
    if (!isErrno(error, Errno.ENOENT, Errno.ENOTDIR)) throw error;
    const message = `Cannot find the network namespace "${path}": the container is gone`;
    throw new CniError(Code.UnknownContainer, message, undefined, { cause: error });
  }
  if (!isSameNetns(pod.identity, host.netns.identity)) return pod;
  pod[Symbol.dispose]();
  throw new CniError(Code.InvalidNetns, `"${path}" is the host's own network namespace`);
}

async function refuseTakenName(pod: Netns, ifname: string): Promise<void> {
  const taken = await getLinkByName(pod.rtnl, ifname);
  if (!taken) return;
  const message = `CNI_IFNAME "${ifname}" is taken: the pod has an interface of that name already`;
  throw new CniError(Code.InvalidEnvironment, message);
}

/** Puts the netdev into the pod, with its MAC and up. */
async function intoPod(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link | undefined,
  { mac }: VfSettings,
  { podIfname, mtu }: NetConf,
): Promise<Link> {
  if (!link) throw new NotUsable(noNetdev(vf));
  const netdev = mac === undefined ? link : await carryMac(host, vf, link, mac);
  const fields = { vf: vf.pci, hostIfname: netdev.ifname };
  const moved = await host.log.change('netdev moved into the pod', fields, () =>
    moveIntoPod(host, pod, vf, netdev, podIfname, mtu),
  );
  prepareLink(pod, moved.ifname);
  return moved;
}

async function bind(
  host: Host,
  vf: Vf,
  driver: UserspaceDriver,
  override: string | undefined,
): Promise<void> {
  await host.log.change('VF bound to a userspace driver', { vf: vf.pci, from: vf.driver, driver }, () =>
    bindUserspace(host.sys, vf, driver, override),
  );
  host.log.info('a container needs its device file', { vf: vf.pci, file: vfioDeviceFile(host.sys, vf.pci) });
}

async function configureAddresses(
  host: Host,
  pod: Netns,
  vf: Vf,
  link: Link,
  addresses: Result,
): Promise<void> {
  const config = toIpConfig(addresses, 'the IPAM plugin');
  const fields = { vf: vf.pci, addresses: addresses.ips.map(({ address }) => address).join(' ') };
  await host.log.change('addresses configured', fields, () => configureIp(pod, link, config));
  try {
    announce(pod, link, config.addresses.map(({ bytes }) => bytes)); // prettier-ignore
  } catch (error) {
    host.log.warning('addresses not announced', { error: String(error) }); // neighbours find out by themselves, later
  }
}

/** The result of the chain so far with our interface and its addresses behind it. */
function withOurs(
  previous: Result,
  ours: Result['interfaces'][number],
  addresses: Result | undefined,
): Result {
  const index = previous.interfaces.length;
  const dns = addresses?.dns ?? {};
  return {
    interfaces: [...previous.interfaces, ours],
    ips: [...previous.ips, ...(addresses?.ips ?? []).map((ip) => ({ ...ip, interface: index }))],
    routes: [...previous.routes, ...(addresses?.routes ?? [])],
    dns: Object.keys(dns).length > 0 ? dns : previous.dns,
  };
}

/** Undoes an ADD that failed. The error stays the first one; what could not be undone is in its details. */
async function rollBack(
  host: Host,
  claim: Claim,
  lock: FileLock,
  env: IpamCall['env'],
  error: unknown,
): Promise<CniError> {
  const failure = toCniError(error);
  // A plugin that gave no address has none to free. One that cannot work at all (its daemon is down, the version is not its own) would
  // refuse that, too, and keep the claim for ever; the runtime's DEL asks it once more.
  const request = error instanceof IpamRefused ? { ...claim.request, config: {} } : claim.request;
  try {
    await release(host, { ...claim, request }, lock, env);
    return failure;
  } catch (undo) {
    const left = toCniError(undo);
    const message = `${failure.message}; and the VF could not be given back: ${left.message}`;
    return new CniError(Code.RollbackIncomplete, message, left.details, { cause: error });
  }
}
