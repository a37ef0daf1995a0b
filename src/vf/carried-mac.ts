import { Errno, isErrno, KernelError } from '../kernel/errno.ts';
import { IFF_UP, type Link } from '../kernel/link-message.ts';
import { getLink, setLink } from '../kernel/link.ts';
import { bindDriver, unbindDriver } from '../kernel/pci-driver.ts';
import type { Host } from './host.ts';
import { NotUsable, standsAlone, type Vf, vfName } from './inventory.ts';
import { awaitOnHost } from './netdev.ts';
import { SettingRefused } from './settings.ts';

/** What is done around binding a VF's driver anew, where more than the netdev comes and goes with it. */
export type Around = <T>(bind: () => Promise<T>) => Promise<T>;
export const nothingElse: Around = (bind) => bind();

/** How often a MAC is read back, and the distance: i40e and iavf apply it through a work queue. */
const macTries = 20;
const macPauseMs = 100;

/**
 * Makes sure that the netdev, down and on the host, carries a MAC that the PF has programmed: sets it, and where the driver refuses or
 * ignores that, reloads the driver of this VF, which then takes the MAC from its PF (igbvf has no other way: "Reload the VF driver to
 * resume operations"). Where no PF is above it, there is nothing to take it from.
 * @returns the netdev, a new one after a reload
 * @throws NotUsable if the netdev still has another MAC; SettingRefused if that is a NIC's last word
 */
export async function carryMac(
  host: Host,
  vf: Vf,
  link: Link,
  mac: string,
  around: Around = nothingElse,
): Promise<Link> {
  if (link.mac === mac) return link;
  const { isSet, refusal } = await setMac(host, vf, link, mac);
  if (isSet) return { ...link, mac };
  if (standsAlone(vf)) {
    if (refusal) throw new SettingRefused(vf, `"mac": "${mac}"`, refusal);
    throw new NotUsable(`${vfName(vf)} does not take MAC ${mac}, and does not say why`);
  }
  const fields = { vf: vf.pci, driver: vf.driver, mac };
  const fresh = await host.log.change('VF driver reloaded for the MAC', fields, () =>
    around(() => reloadDriver(host, vf)),
  );
  if (fresh.mac === mac || (await setMac(host, vf, fresh, mac)).isSet) return { ...fresh, mac };
  throw new NotUsable(
    `${vfName(vf)} does not take MAC ${mac}: its netdev ${fresh.ifname} has ${fresh.mac} even after its driver ${vf.driver} was reloaded`,
  );
}

/** @returns the kernel's last word where it refused the MAC; it can also ignore it */
async function setMac(
  host: Host,
  vf: Vf,
  link: Link,
  mac: string,
): Promise<{ isSet: boolean; refusal?: KernelError }> {
  let busy: KernelError | undefined;
  const { rtnl } = host.netns;
  if (link.flags & IFF_UP)
    await setLink(rtnl, `take ${link.ifname} down`, link.ifindex, { clearFlags: IFF_UP });
  for (let tries = 1; tries <= macTries; tries++) {
    try {
      const fields = { vf: vf.pci, hostIfname: link.ifname, mac };
      await host.log.change('MAC set on the netdev', fields, () =>
        setLink(rtnl, `set MAC ${mac} on ${link.ifname}`, link.ifindex, { mac }),
      );
      if ((await getLink(rtnl, link.ifindex))?.mac === mac) return { isSet: true };
    } catch (error) {
      if (!(error instanceof KernelError)) return { isSet: false };
      if (!isErrno(error, Errno.EAGAIN, Errno.EBUSY)) return { isSet: false, refusal: error };
      busy = error;
    }
    await new Promise((resolve) => setTimeout(resolve, macPauseMs));
  }
  return { isSet: false, ...(busy && { refusal: busy }) };
}

/** Unbinds and binds the VF's kernel driver and waits for the netdev. */
async function reloadDriver(host: Host, vf: Vf): Promise<Link> {
  if (vf.driver === undefined) throw new NotUsable(`${vfName(vf)} has no driver that could be reloaded`);
  unbindDriver(host.sys, vf.pci);
  return startDriver(host, vf, vf.driver);
}

/** Binds a VF without a driver to a kernel driver and waits for the netdev. */
export async function startDriver(host: Host, vf: Vf, driver: string): Promise<Link> {
  bindDriver(host.sys, vf.pci, driver);
  const link = await awaitOnHost(host, vf.pci);
  if (!link) throw new NotUsable(`${vfName(vf)} has no netdev although its driver ${driver} was loaded`);
  return link;
}
