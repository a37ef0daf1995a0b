import { Failure } from '../attach/failure.ts';
import { quoted } from '../kernel/printable.ts';
import {
  givenMac,
  parseBoolean,
  parseOptions,
  refusedOption,
  type Understood,
  wantsGateway,
} from '../attach/options.ts';
import type { Wish } from '../attach/wish.ts';
import { isIfname } from '../kernel/ifname.ts';
import { usualMetric } from './given-addresses.ts';
import type { Call, Network } from './netavark.ts';

/** Options of podman's own drivers that make sense here, and Docker's word for no default route. */
const ownNames = ['metric', 'no_default_route', 'gateway'];

/** What a network, and a container in it, ask for. */
export interface NetworkWish {
  readonly wish: Wish;
  /** Metric of the default routes; undefined where there shall be none. */
  readonly defaultMetric: number | undefined;
}

/** The wish of a network, as far as it is told before there is a container. @throws Failure `bad wish` */
export function wishOfNetwork(network: Network): NetworkWish {
  return wishOf(network, {}, undefined, 'eth0', undefined);
}

/** The wish of a container in a network. @throws Failure `bad wish` */
export function wishOfCall({ network, network_options, container_name }: Call): NetworkWish {
  const { interface_name: ifname, static_mac: mac, options } = network_options;
  if (!isIfname(ifname))
    throw new Failure(
      'bad wish',
      `Interface name ${quoted(ifname)} is not allowed: at most 15 characters, none of / : and white space`,
    );
  return wishOf(network, options ?? {}, mac, ifname, container_name);
}

function wishOf(
  network: Network,
  containerOptions: Readonly<Record<string, string>>,
  staticMac: string | null | undefined,
  podIfname: string,
  containerName: string | undefined,
): NetworkWish {
  const { name, network_interface: parent, ipam_options: ipam } = network;
  const given = { ...network.options };
  const layers = parent ? [{ parent }, given] : [given];
  const { wish, own } = parseOptions([...layers, containerOptions], ownNames);
  if (!wish.device)
    throw new Failure(
      'bad wish',
      `Network ${name} names no device: --opt pf=ens1f0 takes a free VF of that PF, ` +
        '--opt deviceID=0000:03:02.0 that VF (sriov list shows them)',
    );
  if (ipam?.['driver'] === 'dhcp')
    throw new Failure(
      'bad wish',
      `Network ${name} asks for --ipam-driver dhcp, which netavark has for its own drivers only: host-local (with --subnet) or none`,
    );
  return {
    wish: {
      ...wish,
      settings: { ...wish.settings, mac: givenMac(staticMac) ?? wish.settings.mac },
      network: name,
      podIfname,
      deviceInfoFile: undefined,
      pod: undefined,
      containerName,
      routersGive: routersGive(network),
    },
    defaultMetric: network.internal ? undefined : defaultMetricOf(own),
  };
}

/**
 * A router's word must not undo --internal, nor give addresses beside Podman's own: netavark's macvlan has it so. A network without
 * subnets may live from it.
 */
function routersGive({ internal, subnets }: Network): Wish['routersGive'] {
  if (internal) return 'nothing';
  return subnets?.length ? 'routes' : undefined;
}

/** @throws Failure `bad wish` */
function defaultMetricOf(own: Understood['own']): number | undefined {
  const [metric = String(usualMetric), without = 'no', gateway] = ownNames.map((name) => own.get(name));
  if (!/^\d{1,9}$/.test(metric)) throw refusedOption('metric', metric, 'must be a whole number from 0');
  const isWithout = parseBoolean(without);
  if (isWithout === undefined) throw refusedOption('no_default_route', without, 'must be true or false');
  return wantsGateway(gateway) && !isWithout ? Number(metric) : undefined;
}
