import { attach, type Attached } from '../attach/attach.ts';
import { Phases } from '../kernel/log.ts';
import type { Host } from '../vf/host.ts';
import { type NetConf, parseConfig } from './config.ts';
import { callerOf, type IpamAddresses, ipamAddresses, ipamCallOf, ipamRequest } from './ipam.ts';
import type { Request } from './request.ts';
import { formatResult, parseResult, type Result } from './result.ts';

/** ADD: attaches a VF to a pod and returns the CNI result as JSON. */
export async function add(host: Host, request: Request): Promise<string> {
  const phases = new Phases();
  phases.end('start');
  const conf = parseConfig(request);
  for (const note of conf.notes) host.log.info(note);
  for (const warning of conf.warnings) host.log.warning(warning);
  const previous = previousResult(request, conf);
  // What this version cannot express is refused before anything is changed.
  if (!conf.hasIpam) formatResult(previous, conf.cniVersion);
  const ipam = conf.hasIpam ? ipamCallOf(request) : undefined;
  const order = {
    attachment: request.attachment,
    wish: conf,
    addresses: ipam && ipamAddresses(ipam),
    request: ipamRequest(request, conf.hasIpam),
    caller: callerOf(request),
  };
  return attach(host, order, phases, (attached) =>
    formatResult(withOurs(previous, conf, request, attached), conf.cniVersion),
  );
}

/** The result of the plugins before us in a chain; an empty one if we are the first. @throws CniError 6 */
function previousResult({ config }: Request, { cniVersion }: NetConf): Result {
  const given = config['prevResult'];
  if (given === undefined || given === null) return { interfaces: [], ips: [], routes: [], dns: {} };
  return parseResult(given, cniVersion, 'the plugin before ("prevResult")');
}

/**
 * The result of the chain so far with our interface and its addresses behind it. A bond comes behind its slaves: Multus used to report the
 * last interface of a pod as its attachment's.
 */
function withOurs(
  previous: Result,
  { podIfname }: NetConf,
  { attachment }: Request,
  { pci, slaves, mac, mtu, addresses }: Attached<IpamAddresses>,
): Result {
  const sandbox = attachment.netns;
  const below = slaves.map(({ vf, link }) => ({
    name: link.ifname,
    mac: link.mac,
    mtu: link.mtu,
    sandbox,
    pciID: vf.pci,
  }));
  const ours = { name: podIfname, mac, mtu, sandbox, pciID: slaves.length > 0 ? undefined : pci };
  const index = previous.interfaces.length + below.length;
  const { ips = [], routes = [], dns = {} } = addresses?.result ?? {};
  return {
    interfaces: [...previous.interfaces, ...below, ours],
    ips: [...previous.ips, ...ips.map((ip) => ({ ...ip, interface: index }))],
    routes: [...previous.routes, ...routes],
    dns: Object.keys(dns).length > 0 ? dns : previous.dns,
  };
}
