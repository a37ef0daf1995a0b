/**
 * A VF's RDMA device. Its name is not its identity: a pod can change it, and a driver that is bound anew gives it another one. Which VF it
 * belongs to is told by its character devices, which stay in sight on the host while the device itself is in a pod.
 */
import { Errno, isErrno } from '../kernel/errno.ts';
import { listFolder, readFile } from '../kernel/files.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import type { Claim } from '../vf/claim.ts';
import { devicePath } from '../vf/inventory.ts';

/** What a claim has of it: what it is like before the first change. */
export type RdmaRecord = NonNullable<Claim['rdma']>;

// What cannot be read is no device that is gone: unlike elsewhere in sysfs, an error here is an error.
const folderOf = ({ root }: Sysfs, pci: string) => `${root}/${devicePath(pci)}`;

/** Names of the RDMA devices of a PCI function, as far as the host's namespace sees them. @throws FileError */
export function rdmaNames(sys: Sysfs, pci: string): string[] {
  return listFolder(`${folderOf(sys, pci)}/infiniband`);
}

function characterDevices(sys: Sysfs, pci: string): { file: string; path: string }[] {
  return ['infiniband_mad', 'infiniband_verbs'].flatMap((kind) => {
    const folder = `${folderOf(sys, pci)}/${kind}`;
    return listFolder(folder).map((file) => ({ file, path: `${folder}/${file}` }));
  });
}

/** Its files in /dev/infiniband, wherever the device itself is: "umad0", "uverbs0". @throws FileError */
export function rdmaFiles(sys: Sysfs, pci: string): string[] {
  return characterDevices(sys, pci).map(({ file }) => file);
}

/**
 * What it is called now, wherever it is; undefined if there is none. Its files go first when it goes, so they are never those of one that is
 * on its way out.
 * @throws FileError
 */
export function rdmaName(sys: Sysfs, pci: string): string | undefined {
  for (const { path } of characterDevices(sys, pci)) {
    const name = ownerOf(path);
    if (name !== undefined) return name;
  }
  return rdmaNames(sys, pci)[0];
}

function ownerOf(path: string): string | undefined {
  try {
    return readFile(`${path}/ibdev`)?.trim();
  } catch (error) {
    if (isErrno(error, Errno.ENODEV)) return undefined; // it is just going
    throw error;
  }
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
