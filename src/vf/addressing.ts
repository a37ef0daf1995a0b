import {
  addAddress,
  IFA_F_DADFAILED,
  IFA_F_TENTATIVE,
  type LinkAddress,
  listAddresses,
  RTNLGRP_IPV6_IFADDR,
} from '../kernel/address.ts';
import { Errno, isErrno, KernelError } from '../kernel/errno.ts';
import { readFile, writeValue } from '../kernel/files.ts';
import { IFF_RUNNING, IFF_UP, type Link } from '../kernel/link-message.ts';
import { getLink } from '../kernel/link.ts';
import type { Netns } from '../kernel/netns.ts';
import { addRoute, type Route } from '../kernel/route.ts';
import { type Cidr, formatIp, isIpv6 } from './ip.ts';

/** Addresses and routes for a link of a pod. */
export interface IpConfig {
  readonly addresses: readonly (Cidr & { readonly gateway: Uint8Array | undefined })[];
  /** A route without a gateway goes through the first gateway of its family, if there is one. */
  readonly routes: readonly Omit<Route, 'ifindex'>[];
}

const conf = (family: 'ipv4' | 'ipv6', ifname: string, key: string) =>
  `/proc/sys/net/${family}/conf/${ifname}/${key}`;

/** Sets a sysctl; a kernel without IPv6 has no such file. */
function setSysctl(path: string, value: string): void {
  try {
    writeValue(path, value);
  } catch (error) {
    if (!isErrno(error, Errno.ENOENT)) throw error;
  }
}

/** Announce MAC and address changes by themselves, and let IPv6 addresses be used while their uniqueness is still being probed. */
export function prepareLink(pod: Netns, ifname: string, routersGive?: 'routes' | 'nothing'): void {
  pod.inside(() => {
    if (routersGive !== undefined) setSysctl(conf('ipv6', ifname, 'autoconf'), '0');
    if (routersGive === 'nothing') setSysctl(conf('ipv6', ifname, 'accept_ra'), '0');
    setSysctl(conf('ipv4', ifname, 'arp_notify'), '1');
    setSysctl(conf('ipv6', ifname, 'ndisc_notify'), '1');
    setSysctl(conf('ipv6', ifname, 'optimistic_dad'), '1');
  });
}

/** Some runtimes start namespaces with IPv6 off; an IPv6 address is a wish to have it on. */
function enableIpv6(pod: Netns, ifname: string): void {
  pod.inside(() => {
    for (const name of ['lo', ifname]) {
      const path = conf('ipv6', name, 'disable_ipv6');
      if (readFile(path)?.trim() === '1') writeValue(path, '0');
    }
    setSysctl(conf('ipv6', ifname, 'keep_addr_on_down'), '1');
  });
}

/**
 * Gives a link of the pod its addresses and routes. With an IPv6 gateway it waits until the addresses are known to be unique.
 * @returns the addresses that neighbours may hear of now. An IPv6 address that is still being probed is nobody's: whoever gets such an
 * advertisement takes it for another host's, even the sender, if a hub or a switch brings it back. The kernel announces it when probing has
 * ended (ndisc_notify).
 * @throws KernelError; DuplicateAddress if another host has one of the addresses
 */
export async function configureIp(pod: Netns, link: Link, config: IpConfig): Promise<Uint8Array[]> {
  const { addresses, routes } = config;
  if (addresses.some((a) => isIpv6(a.bytes))) enableIpv6(pod, link.ifname);
  for (const { bytes, prefixLength } of addresses) {
    await addAddress(
      pod.rtnl,
      `add address ${formatIp(bytes)}/${prefixLength} to ${link.ifname}`,
      link.ifindex,
      bytes,
      prefixLength,
    );
  }
  const areProbed = addresses.some((a) => isIpv6(a.bytes) && a.gateway) && (await awaitUnique(pod, link));
  for (const route of routes)
    await addRoute(pod.rtnl, describeRoute(route, link), withGateway(route, link, config));
  return addresses.map(({ bytes }) => bytes).filter((bytes) => areProbed || !isIpv6(bytes));
}

function describeRoute({ dst, prefixLength }: Omit<Route, 'ifindex'>, link: Link): string {
  return `add route ${formatIp(dst)}/${prefixLength} through ${link.ifname}`;
}

/** The route as it is added: through its own gateway or the first of its family. */
export function withGateway(route: Omit<Route, 'ifindex'>, link: Link, { addresses }: IpConfig): Route {
  const gateway =
    route.gateway ?? addresses.find((a) => a.gateway && isIpv6(a.bytes) === isIpv6(route.dst))?.gateway;
  return { ...route, ifindex: link.ifindex, gateway };
}

/** Another host answered for an address that was about to become ours. */
export class DuplicateAddress extends KernelError {
  constructor(address: LinkAddress, link: Link) {
    const operation = `use address ${formatIp(address.bytes)} on ${link.ifname}`;
    super(operation, Errno.EADDRINUSE, 'another host has it: duplicate address detection failed');
  }
}

/** Duplicate address detection takes 1 to 2 s: a random delay and one second of listening (RFC 4862 5.4). */
const dadTimeoutMs = 5_000;

/** @returns false if that cannot be known yet */
async function awaitUnique(pod: Netns, link: Link): Promise<boolean> {
  const isUnique = await pod.rtnl.watch(RTNLGRP_IPV6_IFADDR, dadTimeoutMs, async () => {
    const own = (await listAddresses(pod.rtnl)).filter((a) => a.ifindex === link.ifindex);
    const failed = own.find((a) => a.flags & IFA_F_DADFAILED);
    if (failed) throw new DuplicateAddress(failed, link);
    return own.some((a) => a.flags & IFA_F_TENTATIVE) ? undefined : true;
  });
  if (isUnique) return true;
  // Without carrier nothing can be probed, and the pod may well be the first on its wire.
  const flags = (await getLink(pod.rtnl, link.ifindex))?.flags ?? 0;
  if (flags & IFF_UP && flags & IFF_RUNNING)
    throw new KernelError(
      `use the IPv6 addresses of ${link.ifname}`,
      Errno.ETIMEDOUT,
      `duplicate address detection did not end in ${dadTimeoutMs} ms`,
    );
  return false;
}
