import { type Holder, holdersOfDevices } from '../kernel/holders.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { devicePath } from './inventory.ts';

/** Character devices through which userspace drives a PCI function, as "major:minor". */
export function userDevices(sys: Sysfs, pci: string): string[] {
  const device = devicePath(pci);
  const group = sys.linkName(`${device}/iommu_group`);
  const children = ['vfio-dev', 'uio', 'infiniband_verbs'].flatMap((kind) =>
    sys.list(`${device}/${kind}`).map((name) => `${device}/${kind}/${name}`),
  );
  // A group without an IOMMU behind it has another name.
  const groups = group === undefined ? [] : [`class/vfio/${group}`, `class/vfio/noiommu-${group}`];
  return [...children, ...groups].flatMap((path) => sys.read(`${path}/dev`) ?? []);
}

/**
 * Processes that drive a VF from userspace: they have its VFIO group, its iommufd, UIO or verbs device open.
 * @param open who has which device open, where it was looked up for several VFs
 */
export function holdersOf(
  sys: Sysfs,
  pci: string,
  open: ReturnType<typeof holdersOfDevices> = holdersOfDevices(userDevices(sys, pci)),
): Holder[] {
  return userDevices(sys, pci).flatMap((device) => open.get(device) ?? []);
}

/** "dpdk-testpmd (pid 4711)" */
export function describeHolders(holders: readonly Holder[]): string {
  return holders.map(({ program, pid }) => `${program} (pid ${pid})`).join(', ');
}
