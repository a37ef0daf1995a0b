import { Failure } from '../attach/failure.ts';
import { quoted } from '../kernel/printable.ts';
import type { IpConfig } from '../vf/addressing.ts';
import { type Cidr, formatIp, isIpv6, isWithin, parseIp, parseNetwork } from '../vf/ip.ts';
import type { Network } from './netavark.ts';

/** Podman's own IPAM has chosen the addresses, and nobody but us configures them, nor the routes. */
export function givenAddresses(
  network: Network,
  ips: readonly string[],
  defaultMetric: number | undefined,
): IpConfig {
  const subnets = (network.subnets ?? []).map(({ subnet, gateway }) => ({
    ...toNetwork(subnet, 'subnet'),
    gateway: gateway ? ip(gateway, 'gateway') : undefined,
  }));
  const addresses = ips.map((text) => {
    const bytes = ip(text, 'address');
    const subnet = subnets.find((one) => isWithin(one, bytes));
    if (!subnet) throw refusal(`address ${text} is in none of the subnets of network ${network.name}`);
    const gateway = network.internal ? undefined : subnet.gateway;
    return { bytes, prefixLength: subnet.prefixLength, gateway };
  });
  return { addresses, routes: [...defaultRoutes(addresses, defaultMetric), ...ownRoutes(network)] };
}

/** One for each family, through the first gateway, as netavark's bridge has them. */
function defaultRoutes(addresses: IpConfig['addresses'], priority: number | undefined): IpConfig['routes'] {
  if (priority === undefined) return [];
  return [false, true].flatMap((v6) => {
    const gateway = addresses.find((one) => one.gateway && isIpv6(one.bytes) === v6)?.gateway;
    return gateway ? [{ dst: new Uint8Array(v6 ? 16 : 4), prefixLength: 0, gateway, priority }] : [];
  });
}

/** As netavark's bridge has it. */
export const usualMetric = 100;

function ownRoutes({ routes }: Network): IpConfig['routes'] {
  return (routes ?? []).map(({ destination, gateway, metric, ...rest }) => {
    const { bytes: dst, prefixLength } = toNetwork(destination, 'route');
    const type = rest['route_type'] ?? rest['type'];
    if (!gateway || (typeof type === 'string' && type !== 'unicast'))
      throw refusal(`route ${destination} has no gateway: only routes through a gateway can be had`);
    const through = ip(gateway, 'gateway');
    if (isIpv6(through) !== isIpv6(dst)) throw refusal(`route ${destination} cannot go through ${gateway}`);
    return { dst, prefixLength, gateway: through, priority: metric ?? usualMetric };
  });
}

function ip(text: string, what: string): Uint8Array {
  const bytes = parseIp(text);
  if (bytes === undefined) throw refusal(`${what} ${quoted(text)} is no IP address`);
  return bytes;
}

function toNetwork(text: string, what: string): Cidr {
  const cidr = parseNetwork(text);
  if (cidr === undefined) throw refusal(`${what} ${quoted(text)} is no network such as 10.9.0.0/24`);
  return cidr;
}

function refusal(problem: string): Failure {
  return new Failure('bad wish', `Cannot use what Podman chose: ${problem}`);
}

/** The addresses as netavark's answer has them. */
export function describe({ addresses }: IpConfig): { ipnet: string; gateway: string | undefined }[] {
  return addresses.map(({ bytes, prefixLength, gateway }) => ({
    ipnet: `${formatIp(bytes)}/${prefixLength}`,
    gateway: gateway && formatIp(gateway),
  }));
}
