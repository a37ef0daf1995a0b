import * as z from 'zod/mini';
import type { FileLock } from '../kernel/files.ts';
import { parseObject } from '../kernel/json.ts';
import {
  type Child,
  findProgram,
  give,
  pipeBytes,
  start,
  startWaiting,
  type WaitingChild,
  whenFinished,
} from '../kernel/process.ts';
import type { PodClaim } from '../vf/claim.ts';
import { Failure, IpamRefused } from './failure.ts';
import { type Attachment, type Caller, withinIpamCall } from './wish.ts';

/** What an IPAM plugin is called with. */
export interface IpamCall {
  /** Name of the plugin, and where it was found. */
  readonly plugin: string;
  readonly program: string;
  readonly attachment: Attachment;
  readonly request: PodClaim['request'];
  readonly env: Caller['env'];
}

export type IpamCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC';

/** The name of the IPAM plugin that a configuration names; undefined if it names none. */
export function ipamType(config: PodClaim['request']['config']): string | undefined {
  const type = (config['ipam'] as { type?: unknown } | null | undefined)?.type;
  return typeof type === 'string' && type !== '' ? type : undefined;
}

/**
 * The call of the IPAM plugin that a configuration names; undefined if it names none.
 * @throws Failure `no IPAM plugin`
 */
export function ipamCall(
  request: PodClaim['request'],
  attachment: Attachment,
  { env }: Caller,
): IpamCall | undefined {
  const plugin = ipamType(request.config);
  if (plugin === undefined) return undefined;
  // The caller's folders first: those of the ADD may have moved since, with a new version of whatever brings the plugins.
  const folders = [env['CNI_PATH'], request.cniPath].filter(Boolean);
  const cniPath = [...new Set(folders)].join(':');
  const program = findProgram(plugin, cniPath);
  if (program === undefined)
    throw new Failure('no IPAM plugin', `Cannot find IPAM plugin "${plugin}" in CNI_PATH "${cniPath}"`);
  return { plugin, program, attachment, request: { ...request, cniPath }, env };
}

/** What of a network configuration an IPAM plugin can need to free an address: the rest is not worth keeping. */
const savedKeys = ['cniVersion', 'name', 'type', 'ipam', 'args', 'runtimeConfig'];

/** The configuration as a claim keeps it, for the IPAM plugin's DEL; empty where there is no IPAM plugin. */
export function savedConfig(config: PodClaim['request']['config']): PodClaim['request']['config'] {
  if (ipamType(config) === undefined) return {};
  return Object.fromEntries(savedKeys.flatMap((key) => (key in config ? [[key, config[key]]] : [])));
}

/** How much a configuration says of the IPAM: some callers send no more than its type (Multus 4.3.0, in a list). */
function saysOfIpam({ ipam }: PodClaim['request']['config']): number {
  return typeof ipam === 'object' && ipam !== null ? Object.keys(ipam).length : 0;
}

/** Whether a configuration has lost all of the IPAM but its type, so that most plugins refuse to work with it. */
export function isStripped(config: PodClaim['request']['config']): boolean {
  return saysOfIpam(config) < 2 && ipamType(config) !== 'dhcp';
}

/** The request that says more of the same network's IPAM: the saved one, unless that was stripped. */
export function fuller(
  saved: PodClaim['request'],
  given: PodClaim['request'] | undefined,
): PodClaim['request'] {
  const isSame =
    given?.config['name'] === saved.config['name'] &&
    ipamType(given?.config ?? {}) === ipamType(saved.config);
  return given && isSame && saysOfIpam(given.config) > saysOfIpam(saved.config) ? given : saved;
}

/**
 * Whether the address must be freed while the interface is in the pod. The daemon of the "dhcp" plugin tells the DHCP server over it, from
 * a thread that stays in the pod's namespace and keeps even a deleted one alive until then (plugins/ipam/dhcp/lease.go, AcquireLease).
 */
export function needsInterfaceAtDel({ config }: PodClaim['request']): boolean {
  return ipamType(config) === 'dhcp';
}

/**
 * Whether an IPAM plugin only looks into files or a database, and does nothing before it has read its configuration: it can run, or start,
 * while the interface is still on its way.
 */
export function isIndependent({ plugin }: IpamCall): boolean {
  return ['host-local', 'static', 'whereabouts', 'nv-ipam'].includes(plugin);
}

/**
 * Starts the IPAM plugin. It is killed if we die, and it holds the VF's lock: whoever cleans up after us waits until it is gone, so that
 * no lease is written behind a DEL.
 */
export function startIpam(command: IpamCommand, call: IpamCall, lock?: FileLock): Child {
  return start(call.program, [], variablesOf(command, call), inputOf(call), lock ? [lock.fd] : []);
}

/** Starts the IPAM plugin ahead of what it must wait for; undefined if it may not be, see {@link isIndependent}. */
export function startWaitingIpam(
  command: IpamCommand,
  call: IpamCall,
  lock?: FileLock,
): WaitingChild | undefined {
  const mostBytes = 3 * inputOf(call).length; // of UTF-8
  if (!isIndependent(call) || mostBytes > pipeBytes) return undefined;
  return startWaiting(call.program, [], variablesOf(command, call), lock ? [lock.fd] : []);
}

/** Lets an IPAM plugin that waits go on. */
export function beginIpam(call: IpamCall, child: WaitingChild): void {
  give(child, inputOf(call));
}

function inputOf({ request }: IpamCall): string {
  return JSON.stringify(request.config);
}

function variablesOf(command: IpamCommand, call: IpamCall): Record<string, string | undefined> {
  const { attachment, env, request } = call;
  return {
    ...env,
    CNI_COMMAND: command,
    CNI_CONTAINERID: attachment.containerId,
    CNI_NETNS: attachment.netns,
    CNI_IFNAME: attachment.ifname,
    CNI_ARGS: tolerated(request.cniArgs),
    CNI_PATH: request.cniPath,
    [withinIpamCall]: '1',
  };
}

/** Our own keys of CNI_ARGS (MAC, VF, VLAN) are unknown to an IPAM plugin, which must not fail for them. */
function tolerated(cniArgs: string): string {
  return cniArgs === '' || /(^|;)IgnoreUnknown=/.test(cniArgs) ? cniArgs : `IgnoreUnknown=1;${cniArgs}`;
}

const errorSchema = z.lazy(() =>
  z.looseObject({
    code: z.int(),
    msg: z.string(),
    details: z.optional(z.nullable(z.string())),
  }),
);

/** Waits for the IPAM plugin and returns its output. @throws Failure `IPAM failed`, IpamRefused with the plugin's own code and text */
export async function finishIpam(command: IpamCommand, { plugin }: IpamCall, child: Child): Promise<string> {
  const ended = await whenFinished(child);
  if (ended?.code === 0) return ended.stdout;
  const own = errorSchema.safeParse(parseObject(ended?.stdout ?? ''));
  const action = `IPAM plugin "${plugin}" failed at ${command}`;
  if (own.success)
    throw new IpamRefused(own.data.code, `${action}: ${own.data.msg}`, own.data.details ?? undefined);
  throw new Failure('IPAM failed', `${action}: exit code ${ended?.code}`, excerpt(ended?.stdout ?? ''));
}

const excerptLength = 4096;

/** As much of a program's output as belongs into an error; undefined for none. */
export function excerpt(output: string): string | undefined {
  return output.length > excerptLength ? `${output.slice(0, excerptLength)}...` : output || undefined;
}

/** Runs the IPAM plugin where nothing is done beside it. @throws Failure; IpamRefused with the plugin's own code and text */
export async function runIpam(command: IpamCommand, call: IpamCall, lock?: FileLock): Promise<void> {
  await finishIpam(command, call, startIpam(command, call, lock));
}
