/**
 * What can be asked of a device of which no PF programs anything: a NIC, and a VF whose PF's driver has no settings of VFs (virtio). It has
 * the MAC and MTU of its netdev, and that is all.
 */
import { Errno, KernelError } from '../kernel/errno.ts';
import { getLinkByName } from '../kernel/link.ts';
import type { Host } from '../vf/host.ts';
import {
  isNetdevOf,
  isNic,
  netdevNames,
  NotUsable,
  pfName,
  standsAlone,
  type Vf,
  vfName,
} from '../vf/inventory.ts';
import { nicUse } from '../vf/nic.ts';
import { describeSettings, Unsupported, type VfSettings } from '../vf/settings.ts';
import type { Wish } from './wish.ts';

/** @throws NotUsable if the host itself uses the NIC, through any of its netdevs; KernelError EAGAIN while one is being renamed */
export async function refuseUsed(host: Host, vf: Vf): Promise<void> {
  for (const ifname of netdevNames(host.sys, vf.pci)) {
    const link = await getLinkByName(host.netns.rtnl, ifname);
    if (!link || !isNetdevOf(host.sys, vf.pci, link))
      throw new KernelError(`look at ${vfName(vf)}`, Errno.EAGAIN, `it is not "${ifname}" any more`);
    const use = await nicUse(host, link);
    if (use !== undefined)
      throw new NotUsable(`${vfName(vf)} cannot go into a pod: the host uses it: ${use}`);
  }
}

/**
 * A list with a NIC in it cannot serve a network that asks for what only a PF can program: else it would be chance which pods come up.
 * @throws Unsupported
 */
export function refusePfSettings(wish: Wish, vfs: readonly Vf[]): void {
  for (const vf of vfs.filter(isNic)) wantedOnNetdev(wish, vf, false);
}

/**
 * What is to be set on the netdev: its MAC, or nothing.
 * @param isUserspace a process drives the device, and the netdev is gone
 * @throws Unsupported where anything is asked for that only a PF could program
 */
export function wantedOnNetdev(wish: Wish, vf: Vf, isUserspace: boolean): VfSettings {
  const { settings, minTxRate, maxTxRate } = wish;
  const { mac, ...others } = settings;
  const rates = Object.entries({ min_tx_rate: minTxRate, max_tx_rate: maxTxRate });
  const asked = [
    ...describeSettings(isUserspace ? settings : others),
    ...rates.flatMap(([key, rate]) => (rate === undefined ? [] : [`"${key}": ${rate}`])),
  ];
  if (asked.length === 0) return mac === undefined ? {} : { mac };
  const why = standsAlone(vf)
    ? 'only a PF could, and this machine has none for it'
    : `the driver ${vf.pf.driver ?? '(none)'} of ${pfName(vf.pf)} has no settings of VFs (EOPNOTSUPP)`;
  throw new Unsupported(`Cannot set ${asked.join(', ')} on ${vfName(vf)}: ${why}`);
}
