import {
  excerpt,
  finishIpam,
  type IpamCall,
  ipamCall,
  ipamType,
  isIndependent,
  runIpam,
  startIpam,
} from '../attach/ipam-plugin.ts';
import { parseObject } from '../kernel/json.ts';
import { Failure, IpamRefused, messageOf } from '../attach/failure.ts';
import type { AddressSource, Caller } from '../attach/wish.ts';
import { quoted } from '../kernel/printable.ts';
import { type Child, finish, isOwnProgram } from '../kernel/process.ts';
import type { IpConfig } from '../vf/addressing.ts';
import type { Host } from '../vf/host.ts';
import { CniError, Code } from './errors.ts';
import type { Request } from './request.ts';
import { parseResult, type Result, toIpConfig } from './result.ts';
import { parseVersion } from './versions.ts';

/** Addresses and routes as the kernel takes them, and the IPAM plugin's result that they come from. */
export interface IpamAddresses extends IpConfig {
  readonly result: Result;
}

/** What frees the addresses of a request's attachment again. */
export function ipamRequest({ config, attachment }: Request, hasIpam = true): IpamCall['request'] {
  const { cniArgs, cniPath } = attachment;
  return { config: hasIpam ? config : {}, cniArgs, cniPath };
}

/** Who sends a request. */
export function callerOf(request: Request): Caller {
  return { env: request.env, netns: request.attachment.netns, request: ipamRequest(request) };
}

/**
 * The call of the IPAM plugin that a request's configuration names; undefined if it names none.
 * @throws Failure `no IPAM plugin`; CniError 7 if it names this program, which would call itself without end
 */
export function ipamCallOf(request: Request): IpamCall | undefined {
  if (ipamType(request.config) === request.config['type']) throw ownIpam(request);
  const call = ipamCall(ipamRequest(request), request.attachment, callerOf(request));
  if (call && isOwnProgram(call.program)) throw ownIpam(request);
  return call;
}

function ownIpam({ config }: Request): CniError {
  return new CniError(
    Code.InvalidConfig,
    `Invalid network configuration: "ipam": "type": ${quoted(ipamType(config))} is this plugin itself: ` +
      'it must name an IPAM plugin, as "host-local"',
  );
}

/**
 * @throws CniError 50 if no ADD could work now for the IPAM plugin's sake, also where it is not there; 51 if it says so itself;
 * 7 if it is ourselves
 */
export async function checkIpam(request: Request): Promise<void> {
  try {
    const call = ipamCallOf(request);
    if (call) await runIpam('STATUS', call);
  } catch (error) {
    if (error instanceof CniError) throw error;
    if (error instanceof IpamRefused && error.code === Code.MayLoseConnectivity) throw error;
    const details = error instanceof Failure ? error.details : undefined;
    throw new CniError(Code.NotAvailable, messageOf(error), details, { cause: error });
  }
}

/**
 * Whether an IPAM plugin refused GC because it is older than the command: in the words of libcni, or
 * with a code that has no other meaning for a command that needs no container (3: libcni before 1.2
 * looks for one first) and comes with all that it needs (4).
 */
function isOlderThanGc(error: unknown): boolean {
  if (!(error instanceof IpamRefused)) return false;
  const { IncompatibleVersion, UnknownContainer, InvalidEnvironment } = Code;
  const codes: number[] = [IncompatibleVersion, UnknownContainer, InvalidEnvironment];
  return codes.includes(error.code) || /unknown CNI_COMMAND/i.test(error.message);
}

/**
 * Has the IPAM plugin free what no valid attachment has. One that does not know GC is passed over.
 * @throws Failure
 */
export async function collectAddresses(host: Host, request: Request): Promise<void> {
  const skip = (error: unknown) =>
    host.log.warning('IPAM plugin passed over: no address is freed', { error: messageOf(error) });
  let call: IpamCall | undefined;
  try {
    call = ipamCallOf(request);
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
    skip(error); // it is ourselves, and has no addresses
    return;
  }
  if (!call) return;
  try {
    await runIpam('GC', call);
  } catch (error) {
    if (!isOlderThanGc(error)) throw error;
    skip(error);
  }
}

/**
 * The addresses that an IPAM plugin gives. It starts at once where it cannot need the interface, and
 * runs beside the kernel's work.
 */
export function ipamAddresses(call: IpamCall): AddressSource<IpamAddresses> {
  return (lock) => {
    let running: Child | undefined = isIndependent(call) ? startIpam('ADD', call, lock) : undefined;
    return {
      result: async () => {
        const child = running ?? startIpam('ADD', call, lock);
        running = undefined;
        return understand(call, await finishIpam('ADD', call, child));
      },
      [Symbol.dispose]: () => {
        if (running) finish(running);
      },
    };
  };
}

/** @throws CniError 6 */
function understand({ plugin, request }: IpamCall, output: string): IpamAddresses {
  const source = `IPAM plugin "${plugin}"`;
  const value = parseObject(output);
  if (value === undefined)
    throw new CniError(
      Code.DecodingFailure,
      `Cannot parse the result of ${source}: it is not a JSON object`,
      excerpt(output),
    );
  const version = value['cniVersion'] ?? request.config['cniVersion'];
  const result = parseResult(value, parseVersion(version), source);
  if (result.ips.length === 0) throw new CniError(Code.DecodingFailure, `${source} gave no IP address`);
  return { ...toIpConfig(result, 'the IPAM plugin'), result };
}
