import * as z from 'zod/mini';
import type { IpConfig } from '../vf/addressing.ts';
import { isIpv6, parseCidr, parseIp, parseNetwork } from '../vf/ip.ts';
import { quoted } from '../kernel/printable.ts';
import { CniError, Code } from './errors.ts';
import { type CniVersion, isAtLeast } from './versions.ts';

const text = z.optional(z.nullable(z.string()));
const number = z.optional(z.nullable(z.number()));

const interfaceSchema = z.lazy(() =>
  z.looseObject({
    name: z.string(),
    mac: text,
    mtu: number,
    sandbox: text,
    socketPath: text,
    pciID: text,
  }),
);
const ipSchema = z.lazy(() => z.object({ address: z.string(), gateway: text, interface: number }));
const routeSchema = z.lazy(() =>
  z.object({
    dst: z.string(),
    gw: text,
    mtu: number,
    advmss: number,
    priority: number,
    table: number,
    scope: number,
  }),
);
const dnsSchema = z.lazy(() =>
  z.looseObject({
    nameservers: z.optional(z.nullable(z.array(z.string()))),
    domain: text,
    search: z.optional(z.nullable(z.array(z.string()))),
    options: z.optional(z.nullable(z.array(z.string()))),
  }),
);
const list = <T extends z.ZodMiniType>(item: T) => z.optional(z.nullable(z.array(item)));

const modernSchema = z.lazy(() =>
  z.looseObject({
    interfaces: list(interfaceSchema),
    ips: list(ipSchema),
    routes: list(routeSchema),
    dns: z.optional(z.nullable(dnsSchema)),
  }),
);

const oldIpSchema = z.lazy(() =>
  z.optional(z.nullable(z.object({ ip: z.string(), gateway: text, routes: list(routeSchema) }))),
);
/** 0.1.0 and 0.2.0 */
const oldSchema = z.lazy(() =>
  z.looseObject({
    ip4: oldIpSchema,
    ip6: oldIpSchema,
    dns: z.optional(z.nullable(dnsSchema)),
  }),
);

/** A result in the form of CNI 1.1.0, whatever version it came in. */
export interface Result {
  readonly interfaces: readonly z.infer<typeof interfaceSchema>[];
  readonly ips: readonly z.infer<typeof ipSchema>[];
  readonly routes: readonly z.infer<typeof routeSchema>[];
  readonly dns: z.infer<typeof dnsSchema>;
}

const maxNamedProblems = 5;

/**
 * Parses another plugin's result.
 * @param source who made it, for the message
 * @throws CniError 6
 */
export function parseResult(value: unknown, version: CniVersion, source: string): Result {
  const isModern = isAtLeast(version, '0.3.0');
  const parsed = isModern ? modernSchema.safeParse(value) : oldSchema.safeParse(value);
  if (!parsed.success) {
    const { issues } = parsed.error;
    const named = issues
      .slice(0, maxNamedProblems)
      .map(({ path, message }) => `${path.join('.')}: ${message}`);
    const more = issues.length > named.length ? [`${issues.length - named.length} more`] : [];
    throw new CniError(
      Code.DecodingFailure,
      `Cannot parse the result of ${source}: ${[...named, ...more].join('; ')}`,
    );
  }
  return isModern ? fromModern(parsed.data) : fromOld(parsed.data);
}

function fromModern({ interfaces, ips, routes, dns }: z.infer<typeof modernSchema>): Result {
  return { interfaces: interfaces ?? [], ips: ips ?? [], routes: routes ?? [], dns: dns ?? {} };
}

function fromOld({ ip4, ip6, dns }: z.infer<typeof oldSchema>): Result {
  const given = [ip4, ip6].flatMap((ip) => ip ?? []);
  return {
    interfaces: [],
    ips: given.map(({ ip, gateway }) => ({ address: ip, gateway })),
    routes: given.flatMap(({ routes }) => routes ?? []),
    dns: dns ?? {},
  };
}

function isIpv6Text(address: string): boolean {
  return address.includes(':');
}

/**
 * The result as JSON in the form of a version: 0.1.0 and 0.2.0 know one address per family and no
 * interfaces, 0.3.0 to 0.4.0 no MTU and PCI address of an interface.
 * @throws CniError 2 for a result that 0.1.0 and 0.2.0 cannot express
 */
export function formatResult(result: Result, version: CniVersion): string {
  const { interfaces, ips, routes, dns } = result;
  const common = { cniVersion: version, dns: Object.keys(dns).length > 0 ? dns : undefined };
  if (!isAtLeast(version, '0.3.0')) {
    const oldIp = (isWanted: (address: string) => boolean) => {
      const ip = ips.find(({ address }) => isWanted(address));
      const own = routes
        .filter(({ dst }) => isWanted(dst))
        .map(({ dst, gw }) => ({ dst, gw: gw ?? undefined }));
      return (
        ip && { ip: ip.address, gateway: ip.gateway ?? undefined, routes: own.length > 0 ? own : undefined }
      );
    };
    if (ips.length === 0) {
      throw new CniError(
        Code.UnsupportedField,
        `"cniVersion": "${version}" cannot express a result without IP addresses: use 0.3.0 or later`,
      );
    }
    return JSON.stringify({ ...common, ip4: oldIp((a) => !isIpv6Text(a)), ip6: oldIp(isIpv6Text) });
  }
  if (!isAtLeast(version, '1.0.0')) {
    return JSON.stringify({
      ...common,
      interfaces: interfaces.map(({ name, mac, sandbox }) => ({ name, mac, sandbox })),
      ips: ips.map((ip) => ({ version: isIpv6Text(ip.address) ? '6' : '4', ...ip })),
      routes: routes.map(({ dst, gw }) => ({ dst, gw: gw ?? undefined })),
    });
  }
  const routesOfVersion = isAtLeast(version, '1.1.0')
    ? routes
    : routes.map(({ dst, gw }) => ({ dst, gw: gw ?? undefined }));
  return JSON.stringify({ ...common, interfaces, ips, routes: routesOfVersion });
}

/**
 * The addresses and routes of a result in the kernel's terms.
 * @throws CniError 6 naming what is no address
 */
export function toIpConfig({ ips, routes }: Pick<Result, 'ips' | 'routes'>, source: string): IpConfig {
  const understood = <T>(value: T | undefined, what: string, given: string): T => {
    if (value !== undefined) return value;
    throw new CniError(
      Code.DecodingFailure,
      `Cannot parse the result of ${source}: ${what} ${quoted(given)}`,
    );
  };
  const gateway = (given: string | null | undefined) =>
    given ? understood(parseIp(given), 'gateway', given) : undefined;
  return {
    addresses: ips.map((ip) => ({
      ...understood(parseCidr(ip.address), 'address', ip.address),
      gateway: gateway(ip.gateway),
    })),
    routes: routes.map(({ dst, gw, mtu, advmss, priority, table, scope }) => {
      const network = understood(parseNetwork(dst), 'route', dst);
      const through = gateway(gw);
      if (through && isIpv6(through) !== isIpv6(network.bytes))
        understood(undefined, `route ${dst} through gateway`, gw ?? '');
      return {
        dst: network.bytes,
        prefixLength: network.prefixLength,
        gateway: through,
        mtu: mtu ?? undefined,
        advmss: advmss ?? undefined,
        priority: priority ?? undefined,
        table: table ?? undefined,
        scope: scope ?? undefined,
      };
    }),
  };
}
