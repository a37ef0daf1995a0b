import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { Sysfs } from '../../src/kernel/sysfs.ts';

/** A file tree as a literal: text is a file, `link('path from the root')` a relative symbolic link as sysfs has them, an object a folder. */
export interface Tree {
  readonly [name: string]: string | Tree | Link;
}

class Link {
  readonly target: string;
  constructor(target: string) {
    this.target = target;
  }
}

export function link(target: string): Link {
  return new Link(target);
}

function write(root: string, folder: string, tree: Tree): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, entry] of Object.entries(tree)) {
    const path = join(folder, name);
    if (typeof entry === 'string') writeFileSync(path, entry);
    else if (entry instanceof Link) symlinkSync(relative(folder, join(root, entry.target)), path);
    else write(root, path, entry);
  }
}

/** Writes a tree into a temporary folder that goes with its scope. */
export function temporaryTree(tree: Tree = {}): { readonly root: string } & Disposable {
  const root = mkdtempSync(join(tmpdir(), 'sriov-test-'));
  write(root, root, tree);
  return { root, [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) };
}

function merge(below: Tree, above: Tree): Tree {
  const isFolder = (entry: Tree[string] | undefined): entry is Tree =>
    typeof entry === 'object' && !(entry instanceof Link);
  const merged: Record<string, Tree[string]> = { ...below };
  for (const [name, entry] of Object.entries(above)) {
    const old = below[name];
    merged[name] = isFolder(entry) && isFolder(old) ? merge(old, entry) : entry;
  }
  return merged;
}

/** A sysfs of which a test says only what it needs; later trees lie over earlier ones. */
export function sysfsTree(...trees: Tree[]): { readonly sys: Sysfs } & Disposable {
  const temporary = temporaryTree(trees.reduce(merge));
  return { sys: new Sysfs(temporary.root), [Symbol.dispose]: () => temporary[Symbol.dispose]() };
}

/** PCI devices and what is in their folders. */
export function devices(tree: Tree): Tree {
  return { bus: { pci: { devices: tree } } };
}

export interface PfShape {
  readonly pci: string;
  readonly ifname?: string;
  readonly driver?: string;
  readonly numVfs?: number;
  readonly totalVfs?: number;
  /** SR-IOV capability: routing ID of VF n = that of the PF + offset + n * stride. */
  readonly offset?: number;
  readonly stride?: number;
  readonly vfDriver?: string | undefined;
}

function pciOf(routingId: number): string {
  const two = (n: number) => n.toString(16).padStart(2, '0');
  return `0000:${two(routingId >> 8)}:${two((routingId >> 3) & 31)}.${routingId & 7}`;
}

/** The part of sysfs that a PF with its VFs makes: igb's numbers unless told otherwise. */
export function pfTree(shape: PfShape): Tree {
  const {
    pci,
    ifname = 'ens1',
    driver = 'igb',
    numVfs = 2,
    totalVfs = 7,
    offset = 128,
    stride = 2,
    vfDriver = 'igbvf',
  } = shape;
  const [, bus = '', rest = ''] = pci.split(':');
  const [device = '', fn = ''] = rest.split('.');
  const base = (parseInt(bus, 16) << 8) | (parseInt(device, 16) << 3) | parseInt(fn, 16);
  const vfs = Array.from({ length: numVfs }, (_, n) => pciOf(base + offset + n * stride));
  const path = (address: string) => `bus/pci/devices/${address}`;
  const netdev: Tree = { ifindex: '2\n' };
  const drivers = Object.fromEntries([driver, vfDriver].map((name) => [name, {}]));
  return {
    bus: {
      pci: {
        drivers,
        devices: {
          [pci]: {
            sriov_numvfs: `${numVfs}\n`,
            sriov_totalvfs: `${totalVfs}\n`,
            sriov_offset: `${offset}\n`,
            sriov_stride: `${stride}\n`,
            driver: link(`bus/pci/drivers/${driver}`),
            net: { [ifname]: netdev },
            ...Object.fromEntries(vfs.map((vf, n) => [`virtfn${n}`, link(path(vf))])),
          },
          ...Object.fromEntries(
            vfs.map((vf, n) => [
              vf,
              {
                physfn: link(path(pci)),
                driver: link(`bus/pci/drivers/${vfDriver}`),
                ...(vfDriver === 'vfio-pci' ? {} : { net: { [`${ifname}v${n}`]: netdev } }),
              },
            ]),
          ),
        },
      },
    },
    class: { net: { [ifname]: { device: link(path(pci)) } } },
  };
}

export interface NicShape {
  readonly pci: string;
  readonly ifname?: string;
  readonly driver?: string;
  /** The device "virtio3" between the PCI function and the netdev. */
  readonly virtio?: string;
}

/** The part of sysfs that a NIC without SR-IOV makes, in a machine that does not see a PF of it. */
export function nicTree({ pci, ifname = 'eth1', driver = 'e1000e', virtio }: NicShape): Tree {
  const path = `bus/pci/devices/${pci}`;
  const net: Tree = { net: { [ifname]: { ifindex: '3\n' } } };
  const parent = virtio === undefined ? path : `${path}/${virtio}`;
  return {
    bus: {
      pci: {
        drivers: { [driver]: {} },
        devices: {
          [pci]: {
            class: '0x020000\n',
            driver: link(`bus/pci/drivers/${driver}`),
            ...(virtio === undefined ? net : { [virtio]: net }),
          },
        },
      },
      virtio: { devices: virtio === undefined ? {} : { [virtio]: link(parent) } },
    },
    class: { net: { [ifname]: { device: link(parent) } } },
  };
}
