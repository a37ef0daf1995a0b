import type { Arch } from './arch.ts';
import { type KernelName, kernels } from './kernels.ts';
import { softRoce } from './soft-roce.ts';

/** A module of the kernel's own source, changed: text that is inserted before or after a text that stands in a file once. */
export interface KernelSource {
  readonly folder: string;
  /** What Debian has not configured of it. */
  readonly config?: readonly string[];
  readonly edits: Readonly<
    Record<string, readonly { readonly before?: string; readonly after?: string; readonly insert: string }[]>
  >;
}

/**
 * Debian packages for one folder tree of the lab, mostly with everything they depend on. $ARCH stands for Debian's word for the guest's
 * processor, $KERNEL for the version of its kernel.
 */
export interface PackageSet {
  /** Debian's; $KERNEL is the one that has the guest's kernel. */
  readonly release: string;
  readonly packages: readonly string[];
  /** Only the packages themselves, unpacked under this folder: for programs newer than the tree's own release. */
  readonly aloneIn?: string;
  /** Only a module of the guest's kernel, made with the compiler and the headers in the packages. */
  readonly module?: string;
}

/** What modules are made of whose source is not in guest/. */
export const kernelSources: Readonly<Record<string, KernelSource | undefined>> = {
  rdma_rxe: softRoce,
  netdevsim: { folder: 'drivers/net/netdevsim', config: ['CONFIG_NETDEVSIM=m'], edits: {} },
};

function list(words: string): readonly string[] {
  return words.trim().split(/\s+/);
}

/**
 * What runs on the developer's machine, straight from the cache: QEMU with the emulated 82576 ("igb"), and the tools that
 * turn packages into disks.
 *
 * QEMU is 11 or later: when one emulated processor of 10.0 changes the memory map (enabling a PCI device, making VFs,
 * rebinding a driver), a write of the other one to its interrupt controller can get lost, and with it the end of an
 * interrupt: that processor gets no timer any more and the guest hangs, or QEMU aborts in iotlb_to_section(). Seen with
 * 10.0.2 and 10.0.13 at one boot in 40, and at once when a loop toggles a device's memory decoding.
 */
export const host: PackageSet = {
  release: 'trixie-backports',
  packages: list(`
    qemu-system-x86 qemu-system-arm
    erofs-utils kmod xz-utils
  `),
};

/** A kernel of the guest, and the one program of its initial RAM file system. */
export function kernelPackages(name: KernelName): PackageSet {
  return { release: kernels[name].release, packages: list('linux-image-$ARCH busybox-static') };
}

/** The guest's root file system: what every test may use. */
const base: PackageSet = {
  release: 'bookworm',
  packages: list(`
    base-files base-passwd bash coreutils dash diffutils findutils gawk grep gzip less libc-bin libstdc++6 mount
    ncurses-base netbase perl-base procps psmisc sed tar util-linux
    ethtool iproute2 iptables iputils-arping iputils-ping jq kmod nftables pciutils strace tcpdump
    containernetworking-plugins
  `),
};

/** What a module of the guest's kernel is compiled with; the compiler is the one that the headers come with. */
const compiler = list('make dash coreutils sed grep gawk findutils diffutils linux-headers-$KERNEL');
/** And one whose source is the kernel's own. */
const sourceCompiler = [...compiler, ...list('linux-source tar xz-utils')];

/** Disks of the guest, stacked on `base` where a test asks for them; each is fetched when it is first wanted. */
export const disks = {
  base,
  dpdk: { release: 'bookworm', packages: list('dpdk-dev') },
  runtimes: { release: 'bookworm', packages: list('containerd runc podman dnsmasq-base busybox-static') },
  // Podman with netavark, which bookworm's is too old for: whole trees of newer releases, C library included, over the base's files.
  'podman-trixie': { release: 'trixie', packages: list('podman netavark crun conmon busybox-static') },
  'podman-sid': { release: 'sid', packages: list('podman netavark crun conmon busybox-static') },
  // The oldest and the newest dockerd of Debian; the newest with its own release's libraries, as above.
  docker: { release: 'bookworm', packages: list('docker.io containerd runc busybox-static') },
  'docker-sid': {
    release: 'sid',
    packages: list('docker.io docker-cli docker-compose containerd runc busybox-static'),
  },
  'containerd-sid': {
    release: 'sid',
    packages: list('containerd containernetworking-plugins'),
    aloneIn: 'opt/containerd-sid',
  },
  // Who collects and judges metrics: programs that need nothing but the base's C library.
  prometheus: {
    release: 'bookworm',
    packages: list('prometheus prometheus-node-exporter'),
    aloneIn: 'opt/prometheus',
  },
  // For the host: test/support/callgrind.ts takes its one static program out.
  valgrind: { release: 'bookworm', packages: list('valgrind'), aloneIn: 'opt/valgrind' },
  // /lab/rdma_rxe.ko: each VF gets an RDMA device.
  rdma: {
    release: '$KERNEL',
    packages: sourceCompiler,
    module: 'rdma_rxe',
  },
  // /lab/netdevsim.ko: a card of the kernel's own, which takes every setting of a VF.
  netdevsim: {
    release: '$KERNEL',
    packages: sourceCompiler,
    module: 'netdevsim',
  },
  // /lab/igb_faults.ko; the kernel's own release and headers, else it does not load.
  faults: {
    release: '$KERNEL',
    packages: compiler,
    module: 'igb_faults',
  },
} satisfies Record<string, PackageSet>;

export type Disk = keyof typeof disks;

/** Folders and files of the kernel's modules that the guest keeps, below `/lib/modules/VERSION/kernel`. */
const commonModules = list(`
  arch block crypto lib net
  fs/erofs fs/fuse fs/nls fs/overlayfs
  drivers/block/loop.* drivers/block/virtio_blk.* drivers/i2c/algos drivers/infiniband/core
  drivers/net/*.ko* drivers/net/bonding drivers/net/ethernet/intel drivers/net/ipvlan drivers/net/team drivers/net/vxlan
  drivers/uio drivers/vfio drivers/vhost drivers/virtio
`);
const archModules: Readonly<Record<Arch, readonly string[]>> = {
  x64: ['virt', 'drivers/dca'],
  arm64: [],
};
export function kernelModules(name: KernelName, arch: Arch): readonly string[] {
  return [...commonModules, ...archModules[arch], ...kernels[name].modules];
}

/** Modules that the initial RAM file system loads, by purpose: its `init` names these folders. Some kernels have some of them built in. */
export const earlyModules = {
  root: list('virtio_pci virtio_blk virtio_console erofs overlay'),
  pf: list('igbvf igb'),
};
