import * as z from 'zod/mini';
import type { FileLock } from '../kernel/files.ts';
import { type Child, findProgram, finish, start } from '../kernel/process.ts';
import { Code, CniError } from './errors.ts';
import type { Attachment, Command } from './request.ts';
import { parseResult, type Result } from './result.ts';
import { parseVersion } from './versions.ts';

/** What an IPAM plugin is called with. */
export interface IpamCall {
  /** Name of the plugin, and where it was found. */
  readonly plugin: string;
  readonly program: string;
  readonly attachment: Attachment;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The network configuration as it came. */
  readonly config: Readonly<Record<string, unknown>>;
}

/**
 * The call of the IPAM plugin that a configuration names; undefined if it names none.
 * @throws CniError 4 if there is no such plugin
 */
export function ipamCall(
  config: IpamCall['config'],
  attachment: Attachment,
  env: IpamCall['env'],
): IpamCall | undefined {
  const plugin = (config['ipam'] as { type?: unknown } | null | undefined)?.type;
  if (typeof plugin !== 'string' || plugin === '') return undefined;
  const program = findProgram(plugin, attachment.cniPath);
  if (program === undefined) {
    throw new CniError(
      Code.InvalidEnvironment,
      `Cannot find IPAM plugin "${plugin}" in CNI_PATH "${attachment.cniPath}"`,
    );
  }
  return { plugin, program, attachment, env, config };
}

/** IPAM plugins that only look into files or a database: they can run while the interface is still on its way. */
const independent = ['host-local', 'static', 'whereabouts', 'nv-ipam'];

/**
 * Whether the address must be freed while the interface is in the pod. The daemon of the "dhcp" plugin tells the DHCP server over it, from
 * a thread that stays in the pod's namespace and keeps even a deleted one alive until then (plugins/ipam/dhcp/lease.go, AcquireLease).
 */
export function needsInterfaceAtDel(config: IpamCall['config']): boolean {
  return (config['ipam'] as { type?: unknown } | null | undefined)?.type === 'dhcp';
}

/**
 * Starts the IPAM plugin. It is killed if we die, and it holds the VF's lock: whoever cleans up after us waits until it is gone, so that
 * no lease is written behind a DEL.
 */
export function startIpam(command: Command, call: IpamCall, lock?: FileLock): Child {
  const { attachment, env, config } = call;
  const variables = {
    ...env,
    CNI_COMMAND: command,
    CNI_CONTAINERID: attachment.containerId,
    CNI_NETNS: attachment.netns,
    CNI_IFNAME: attachment.ifname,
    CNI_ARGS: tolerated(attachment.cniArgs),
    CNI_PATH: attachment.cniPath,
  };
  return start(call.program, [], variables, JSON.stringify(config), lock ? [lock.fd] : []);
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

/** The IPAM plugin's own word, with its own code, that it could not do what was asked. */
export class IpamRefused extends CniError {}

/** Waits for the IPAM plugin and returns its output. @throws CniError with the plugin's own code and text */
export function finishIpam(command: Command, { plugin }: IpamCall, child: Child): string {
  const ended = finish(child);
  if (ended?.code === 0) return ended.stdout;
  const own = errorSchema.safeParse(parseObject(ended?.stdout ?? ''));
  const action = `IPAM plugin "${plugin}" failed at ${command}`;
  if (own.success)
    throw new IpamRefused(own.data.code, `${action}: ${own.data.msg}`, own.data.details ?? undefined);
  throw new CniError(Code.IoFailure, `${action}: exit code ${ended?.code}`, ended?.stdout || undefined);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The ADD of an IPAM plugin. It starts at once where it cannot need the interface, and then runs beside the kernel's work. */
export class IpamAdd {
  readonly #call: IpamCall;
  readonly #lock: FileLock;
  #child: Child | undefined;

  constructor(call: IpamCall, lock: FileLock) {
    this.#call = call;
    this.#lock = lock;
    if (independent.includes(call.plugin)) this.#child = startIpam('ADD', call, lock);
  }

  /** Waits for the addresses. @throws CniError: the plugin's own, or 6 if it gave none */
  result(): Result {
    const { plugin, config } = this.#call;
    const child = this.#child ?? startIpam('ADD', this.#call, this.#lock);
    this.#child = undefined;
    const output = finishIpam('ADD', this.#call, child);
    const source = `IPAM plugin "${plugin}"`;
    const value = parseObject(output);
    if (value === undefined)
      throw new CniError(
        Code.DecodingFailure,
        `Cannot parse the result of ${source}: it is not a JSON object`,
        output,
      );
    const version = value['cniVersion'] ?? config['cniVersion'];
    const result = parseResult(value, parseVersion(version), source);
    if (result.ips.length === 0) throw new CniError(Code.DecodingFailure, `${source} gave no IP address`);
    return result;
  }

  /** Waits for a plugin whose answer is not wanted any more: its lease can be given back only when it has been written. */
  [Symbol.dispose](): void {
    if (this.#child) finish(this.#child);
  }
}

/** Runs the IPAM plugin where nothing is done beside it. @throws CniError with the plugin's own code and text */
export function runIpam(command: 'DEL' | 'CHECK' | 'STATUS' | 'GC', call: IpamCall, lock?: FileLock): void {
  finishIpam(command, call, startIpam(command, call, lock));
}
