import type { Sysfs } from '../kernel/sysfs.ts';
import { devicePath, NotUsable, type Vf, vfName } from '../vf/inventory.ts';

/** Number of the IOMMU group of a PCI function: what can reach each other's memory. Undefined without an IOMMU. */
export function iommuGroup(sys: Sysfs, pci: string): string | undefined {
  return sys.linkName(`${devicePath(pci)}/iommu_group`);
}

/** vfio may serve devices that no IOMMU keeps from the host's memory; a group is then made when a device is bound. */
function isNoIommuMode(sys: Sysfs): boolean {
  return sys.read('module/vfio/parameters/enable_unsafe_noiommu_mode') === 'Y';
}

/** The device file of a VF on vfio-pci that a container needs, beside /dev/vfio/vfio. */
export function vfioDeviceFile(sys: Sysfs, pci: string): string | undefined {
  const group = iommuGroup(sys, pci);
  if (group === undefined) return undefined;
  const isNoIommu = sys.read(`kernel/iommu_groups/${group}/name`) === 'vfio-noiommu';
  return `/dev/vfio/${isNoIommu ? 'noiommu-' : ''}${group}`;
}

/** Drivers that leave a group to vfio: they do no DMA by themselves (driver_managed_dma in the kernel's sources). */
function leavesGroupAlone(driver: string | undefined): boolean {
  return driver === undefined || driver === 'pcieport' || driver === 'pci-stub' || driver.includes('vfio');
}

/**
 * Refuses what vfio would refuse only when the pod's process opens the device, or what would let two pods reach each other's memory.
 * @param isClaimed whether a PCI function is in a pod
 * @throws NotUsable
 */
export function requireIommu(sys: Sysfs, vf: Vf, isClaimed: (pci: string) => boolean): void {
  const group = iommuGroup(sys, vf.pci);
  if (group === undefined) {
    if (isNoIommuMode(sys)) return;
    throw new NotUsable(
      `Cannot bind ${vfName(vf)} to vfio-pci: it is in no IOMMU group. Switch the IOMMU on in the firmware and for the kernel ` +
        '(intel_iommu=on on Intel), or allow devices that no IOMMU keeps from the memory of others: modprobe vfio enable_unsafe_noiommu_mode=1',
    );
  }
  for (const other of sys.list(`${devicePath(vf.pci)}/iommu_group/devices`)) {
    if (other === vf.pci) continue;
    const driver = sys.linkName(`${devicePath(other)}/driver`);
    const isInPod = isClaimed(other);
    if (leavesGroupAlone(driver) && !isInPod) continue;
    throw new NotUsable(
      `Cannot bind ${vfName(vf)} to vfio-pci: ${other} is in the same IOMMU group ${group}, and ` +
        `${isInPod ? 'another pod' : 'the host'} uses it (driver ${driver ?? 'none'}). ` +
        'A slot behind a port with Access Control Services (ACS) gives every VF a group of its own',
    );
  }
}
