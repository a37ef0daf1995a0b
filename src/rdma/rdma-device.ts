/**
 * A VF's RDMA device. Its name is not its identity: a pod can change it, and a driver that is bound anew gives it another one. Which VF it
 * belongs to is told by its character devices, which stay in sight on the host while the device itself is in a pod.
 */
import type { Sysfs } from '../kernel/sysfs.ts';
import type { Claim } from '../vf/claims.ts';
import { devicePath } from '../vf/inventory.ts';

/** What a claim has of it: what it is like before the first change. */
export type RdmaRecord = NonNullable<Claim['rdma']>;

/** Names of the RDMA devices of a PCI function, as far as the host's namespace sees them. */
export function rdmaNames(sys: Sysfs, pci: string): string[] {
  return sys.list(`${devicePath(pci)}/infiniband`);
}

function characterDevices(sys: Sysfs, pci: string): { file: string; path: string }[] {
  return ['infiniband_mad', 'infiniband_verbs'].flatMap((kind) =>
    sys
      .list(`${devicePath(pci)}/${kind}`)
      .map((file) => ({ file, path: `${devicePath(pci)}/${kind}/${file}` })),
  );
}

/** Its files in /dev/infiniband, wherever the device itself is: "umad0", "uverbs0". */
export function rdmaFiles(sys: Sysfs, pci: string): string[] {
  return characterDevices(sys, pci).map(({ file }) => file);
}

/** What it is called now, wherever it is; undefined if there is none. */
export function rdmaName(sys: Sysfs, pci: string): string | undefined {
  const [onHost] = rdmaNames(sys, pci);
  if (onHost !== undefined) return onHost;
  for (const { path } of characterDevices(sys, pci)) {
    const name = sys.read(`${path}/ibdev`);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** "umad0, uverbs0 are umad0, uverbs1 now"; undefined if its files are those that it had. */
export function renumbered(sys: Sysfs, pci: string, { files }: RdmaRecord): string | undefined {
  const now = rdmaFiles(sys, pci);
  if (files.every((file) => now.includes(file))) return undefined;
  return `${files.join(', ')} are ${now.join(', ') || 'gone'} now`;
}

/** A VF's RDMA device as an operator is shown it. */
export interface ShownRdma {
  readonly name: string;
  readonly files: readonly string[];
  /** Whether the host's namespace sees it; else it is in a pod's. */
  readonly isOnHost: boolean;
}

/** Undefined where there is none. */
export function showRdma(sys: Sysfs, pci: string): ShownRdma | undefined {
  const onHost = rdmaNames(sys, pci).join(', ');
  const name = onHost || rdmaName(sys, pci);
  return name === undefined ? undefined : { name, files: rdmaFiles(sys, pci), isOnHost: onHost !== '' };
}
