import {
  excerpt,
  finishIpam,
  type IpamCall,
  ipamCall,
  parseObject,
  startIpam,
} from '../attach/ipam-plugin.ts';
import type { AddressSource, Caller } from '../attach/wish.ts';
import { type Child, finish } from '../kernel/process.ts';
import type { IpConfig } from '../vf/addressing.ts';
import { Code, CniError } from './errors.ts';
import type { Request } from './request.ts';
import { parseResult, type Result, toIpConfig } from './result.ts';
import { parseVersion } from './versions.ts';

/** Addresses and routes as the kernel takes them, and the IPAM plugin's result that they come from. */
export interface IpamAddresses extends IpConfig {
  readonly result: Result;
}

/** What frees the addresses of a request's attachment again. */
export function ipamRequest({ config, attachment }: Request): IpamCall['request'] {
  return { config, cniArgs: attachment.cniArgs, cniPath: attachment.cniPath };
}

/** Who sends a request. */
export function callerOf({ env }: Request): Caller {
  return { env };
}

/** The call of the IPAM plugin that a request's configuration names; undefined if none. @throws Failure `no IPAM plugin` */
export function ipamCallOf(request: Request): IpamCall | undefined {
  return ipamCall(ipamRequest(request), request.attachment, callerOf(request));
}

/** IPAM plugins that only look into files or a database: they can run while the interface is still on its way. */
const independent = ['host-local', 'static', 'whereabouts', 'nv-ipam'];

/** The addresses that an IPAM plugin gives. It starts at once where it cannot need the interface, and runs beside the kernel's work. */
export function ipamAddresses(call: IpamCall): AddressSource<IpamAddresses> {
  return (lock) => {
    const isEarly = independent.includes(call.plugin);
    let running: Child | undefined = isEarly ? startIpam('ADD', call, lock) : undefined;
    return {
      result: () => {
        const child = running ?? startIpam('ADD', call, lock);
        running = undefined;
        return understand(call, finishIpam('ADD', call, child));
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
