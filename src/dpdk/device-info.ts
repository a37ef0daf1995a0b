import * as z from 'zod/mini';
import { confine, exists, lookAt, readFile, writeFileAtomically } from '../kernel/files.ts';
import { parseJson } from '../kernel/json.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { rdmaName, rdmaNames } from '../rdma/rdma-device.ts';
import { isNic, type Vf } from '../vf/inventory.ts';

/** Where Multus has its device-info files; /var/run leads to /run. */
const roots = ['/var/run/k8s.cni.cncf.io/devinfo', '/run/k8s.cni.cncf.io/devinfo'];

/** What the device plugin may have written before, and another plugin may add. */
const fileSchema = z.looseObject({ pci: z.optional(z.looseObject({})) });

/** What the Kubernetes network plumbing group's device-info specification 1.1.0 tells a pod about a PCI device. */
export interface DeviceInfo {
  readonly 'pci-address': string;
  readonly 'pf-pci-address'?: string | undefined;
  readonly 'rdma-device'?: string | undefined;
  readonly 'vhost-net'?: string | undefined;
}

/** Path that a device-info file may have. @throws PathRefused */
export function deviceInfoPath(path: string): string {
  return confine(path, roots);
}

/**
 * What is to be told about a VF.
 * @param isUserspace a process drives it, and may want to reach the kernel through vhost
 */
export function readDeviceInfo(
  sys: Sysfs,
  vf: Vf,
  isUserspace: boolean,
  vhostNet = '/dev/vhost-net',
): DeviceInfo {
  // As the device plugin joins them; of one that is in the pod already, the character devices tell the name.
  const rdma = rdmaNames(sys, vf.pci).join(',') || rdmaName(sys, vf.pci);
  return {
    'pci-address': vf.pci,
    ...(!isNic(vf) && { 'pf-pci-address': vf.pf.pci }),
    ...(rdma !== undefined && { 'rdma-device': rdma }),
    ...(isUserspace && lookAt(() => exists(vhostNet)) && { 'vhost-net': vhostNet }),
  };
}

function previous(path: string): z.infer<typeof fileSchema> {
  try {
    return fileSchema.parse(parseJson(readFile(path) ?? '{}'));
  } catch {
    return {}; // Multus takes a file that it cannot read for none, too
  }
}

/** Writes a device-info file, or adds to the one that Multus copied from the device plugin. The reader's mode is the specification's. */
export function writeDeviceInfo(path: string, info: DeviceInfo): void {
  const old = previous(path);
  const text = JSON.stringify({ ...old, type: 'pci', version: '1.1.0', pci: { ...old.pci, ...info } });
  writeFileAtomically(path, text, false, 0o444);
}
