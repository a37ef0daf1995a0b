import { Failure } from '../attach/failure.ts';
import { givenMac, type Options, parseOptions, refusedOption, wantsGateway } from '../attach/options.ts';
import type { Wish } from '../attach/wish.ts';
import { isIfname } from '../kernel/ifname.ts';
import type { EndpointClaim } from '../vf/claim.ts';
import type { Network } from './networks.ts';
import type { EndpointCall } from './protocol.ts';

/** Options of this door: how interfaces are called in containers, and "gateway=none". */
const ownNames = ['prefix', 'gateway'];

const usualPrefix = 'eth';

/** What a network, and an endpoint of it, ask for. */
export interface EndpointWish {
  readonly wish: Wish;
  readonly join: EndpointClaim['join'];
}

/** The wish of a network, as far as it is told before there is an endpoint. @throws Failure `bad wish` */
export function wishOfNetwork(network: Network): EndpointWish {
  return wishOf(network, {}, undefined);
}

/** The wish of an endpoint in a network. @throws Failure `bad wish` */
export function wishOfEndpoint(network: Network, { Interface, Options }: EndpointCall): EndpointWish {
  const given = Object.entries(Options ?? {}).flatMap(([name, value]) =>
    typeof value === 'string' ? [[name, value] as const] : [],
  );
  return wishOf(network, Object.fromEntries(given), Interface?.MacAddress);
}

/** Docker's own options are no concern of ours, but for the MTU. */
function withoutDockers(options: Options): Options {
  const isOurs = (name: string) =>
    !name.startsWith('com.docker.') || name === 'com.docker.network.driver.mtu';
  return Object.fromEntries(Object.entries(options).filter(([name]) => isOurs(name)));
}

function wishOf(network: Network, ofEndpoint: Options, macAddress: string | null | undefined): EndpointWish {
  const layers = [withoutDockers(network.options), withoutDockers(ofEndpoint)];
  const { wish, own } = parseOptions(layers, ownNames);
  if (!wish.device)
    throw new Failure(
      'bad wish',
      'The network names no device: -o pf=ens1f0 takes a free VF of that PF, -o deviceID=0000:03:02.0 that VF (sriov list shows them)',
    );
  return {
    wish: {
      ...wish,
      rdma: wish.rdma ?? false, // Docker moves nothing but the netdev
      settings: { ...wish.settings, mac: givenMac(macAddress) ?? wish.settings.mac },
      network: network.id,
      podIfname: '',
      deviceInfoFile: undefined,
      pod: undefined,
    },
    join: {
      prefix: prefixOf(own.get('prefix')),
      hasGateway: wantsGateway(own.get('gateway')) && !network.internal,
    },
  };
}

/** Docker puts a number behind it. @throws Failure `bad wish` */
function prefixOf(text = usualPrefix): string {
  if (text !== '' && isIfname(`${text}999`) && !/\d$/.test(text)) return text;
  throw refusedOption(
    'prefix',
    text,
    'at most 12 characters that can begin an interface name, the last one no digit',
  );
}
