import { AF_INET, AF_INET6 } from '../kernel/address.ts';
import { readFile } from '../kernel/files.ts';
import type { Link } from '../kernel/link-message.ts';
import { quoted } from '../kernel/printable.ts';
import { type ListedRoute, listRoutes } from '../kernel/route.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import type { Host } from './host.ts';
import { readNic, type Vf } from './inventory.ts';
import { formatIp } from './ip.ts';
import { hostUse } from './pool.ts';

/** All NICs of the machine, by PCI address: see readNic(). */
export function listNics(sys: Sysfs): Vf[] {
  return sys.list('bus/pci/devices').flatMap((pci) => readNic(sys, pci) ?? []);
}

/**
 * Why the host itself uses a NIC, so that it must never be taken, whoever names it; undefined if it does not. A VF is made for pods, but a
 * NIC can be the one through which the node is reached, or its disks are.
 */
export async function nicUse(host: Host, link: Link): Promise<string | undefined> {
  return (await hostUse(host, link)) ?? (await routeOver(host, link)) ?? mountOver(link);
}

/** Routes without an address on the link: of a node that has its address on lo, and of IPv6's link-local gateways. */
async function routeOver({ netns: { rtnl } }: Host, { ifindex }: Link): Promise<string | undefined> {
  const all = [...(await listRoutes(rtnl, AF_INET)), ...(await listRoutes(rtnl, AF_INET6))];
  const over = all.filter((route) => route.ifindexes.includes(ifindex) && !isLinkLocal(route));
  const [route] = over.sort((a, b) => a.prefixLength - b.prefixLength);
  if (!route) return undefined;
  if (route.prefixLength === 0) return "the host's default route goes over it";
  return `the host's route to ${formatIp(route.dst)}/${route.prefixLength} goes over it`;
}

/** fe80::/10, which comes by itself with every link that is up. */
function isLinkLocal({ dst }: ListedRoute): boolean {
  return dst.length === 16 && dst[0] === 0xfe && ((dst[1] ?? 0) & 0xc0) === 0x80;
}

/**
 * A mounted file system whose server has a link-local address needs neither address nor route: "addr=fe80::1%3", with the link's index
 * (rpc_ntop6() and cifs_show_options() of the kernel) or its name.
 */
function mountOver({ ifindex, ifname }: Link): string | undefined {
  for (const line of (readFile('/proc/self/mountinfo') ?? '').split('\n')) {
    const zones = [...line.matchAll(/fe80:[0-9a-f:]*%([^\s,\]/]+)/gi)].map(([, zone]) => zone);
    if (!zones.includes(String(ifindex)) && !zones.includes(ifname)) continue;
    return `the file system on ${quoted(line.split(' ')[4] ?? '')} is mounted over it`;
  }
  return undefined;
}
