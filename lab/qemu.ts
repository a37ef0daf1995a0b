import type { Arch } from './arch.ts';
import type { LabFiles } from './cache.ts';
import { hostProgram } from './host-program.ts';
import type { KernelName } from './kernels.ts';

export type Accelerator = 'kvm' | 'tcg';

/** The emulated machine, as far as callers choose it. */
export interface Hardware {
  /** The processor (default: the one that the variable ARCH names, else this machine's kind). */
  readonly arch?: Arch;
  /** The kernel (default: the one that the variable KERNEL names, else 6.12). */
  readonly kernel?: KernelName;
  /**
   * How many processors (default: 1 where they are emulated, else 2). With two emulated ones, each waiting for the other while
   * neither has one of the host's, the same work needs half as much time of the host again.
   */
  readonly processors?: number;
  /** Emulated 82576 cards, one PF and seven VFs each (default 2). */
  readonly pfs?: number;
  /** SR-IOV cards of virtio's kind, one PF and three VFs each (default 0). */
  readonly virtioPfs?: number;
  /** NICs without SR-IOV, by QEMU's names (default none). */
  readonly nics?: readonly NicModel[];
  /** The Ethernet segment of each PF and NIC in this order, by number: those on the same one are wired to each other (default: all on 0). */
  readonly segments?: readonly number[];
  /** An IOMMU with interrupt remapping, which vfio wants (default true). */
  readonly iommu?: boolean;
}

export type NicModel = 'e1000e' | 'virtio-net-pci';

interface Start {
  readonly files: LabFiles;
  readonly accelerator: Accelerator;
  readonly hardware: Hardware;
  readonly initrd: string;
  /** Read-only disks, the lowest layer of the guest's root first. */
  readonly disks: readonly string[];
  readonly consoleLog: string;
  /** More words for the kernel's command line. */
  readonly kernelWords?: readonly string[];
}

/** File descriptors that QEMU inherits: sockets to the guest's agent and to its terminal. */
export const descriptors = { agent: 3, terminal: 4 } as const;

/**
 * More breaks the emulated card: with 3072 the mailbox between PF and VF is dead and every VF stays without carrier
 * (QEMU 10.0.2, Linux 6.12).
 */
const memoryMiB = 2048;

const kernelWords = [
  // Warnings are printed (a WARNING or an oops must be seen), the rest is in dmesg only: the serial line is slow.
  'loglevel=5',
  // A panic restarts the machine at once, and -no-reboot makes an end of that.
  'panic=-1',
  'mitigations=off',
  // Self-tests of ciphers take a second of an emulated processor.
  'cryptomgr.notests',
];

/** What machines of a kind are. */
interface Board {
  readonly program: string;
  readonly machine: string;
  /** The processor where it is emulated. */
  readonly processor: string;
  /** The kernel's word for the serial line. */
  readonly console: string;
  /** More words for a kernel that is emulated. */
  readonly emulatedWords: readonly string[];
  readonly iommu: {
    /** Added to `machine`. */
    readonly machine: string;
    readonly options: readonly (readonly string[])[];
    readonly words: readonly string[];
  };
}

const boards: Readonly<Record<Arch, Board>> = {
  x64: {
    program: 'qemu-system-x86_64',
    machine: 'q35,kernel-irqchip=split',
    // Without what an emulator has no use for: its "rep movsb" goes byte by byte, and with ERMS Linux copies and clears pages that way;
    // XSAVE makes each change of process longer.
    processor: 'max,erms=off,fsrm=off,xsave=off',
    console: 'ttyS0',
    // Loops per 4 ms for short delays, of a processor with 2.5 GHz: measuring them would take half a second.
    // No look whether timer interrupts arrive: on a busy machine the test's 10 ms are over before four have, and the kernel gives up
    // ("timer doesn't work through Interrupt-remapped IO-APIC").
    emulatedWords: ['lpj=10000000', 'no_timer_check'],
    iommu: {
      machine: '',
      options: [['-device', 'intel-iommu,intremap=on,caching-mode=on']],
      words: ['intel_iommu=on', 'iommu=pt'],
    },
  },
  arm64: {
    program: 'qemu-system-aarch64',
    machine: 'virt,gic-version=3,its=on',
    // Signing pointers takes an emulator long; other features of "max" save it time against older processors.
    processor: 'max,pauth=off',
    console: 'ttyAMA0',
    // Else mitigations=off leaves the kernel its own page tables, and every system call costs two changes of them.
    emulatedWords: ['nokaslr'],
    iommu: {
      machine: ',iommu=smmuv3',
      options: [],
      // The root ports can isolate what is behind them, but Linux asks them to only where ACPI describes the machine; else all VFs are
      // in one IOMMU group. These bits are what it would set.
      words: ['iommu.passthrough=1', 'pci=config_acs=0011101@pci:0:0'],
    },
  },
};

/** The command line of the machine. The kernel kills it when the process that started it is gone, however that ended. */
export function qemuCommand(start: Start): [string, string[]] {
  const { files, accelerator } = start;
  const { pfs = 2, virtioPfs = 0, nics = [], segments = [], iommu = true } = start.hardware;
  const cards: ((slot: Slot) => string[][])[] = [
    ...Array.from({ length: pfs }, () => igb),
    ...Array.from({ length: virtioPfs }, () => virtioCard),
    ...nics.map((model) => (slot: Slot) => nic(model, slot)),
  ];
  const board = boards[files.arch];
  const isEmulated = accelerator === 'tcg';
  const { processors = isEmulated ? 1 : 2 } = start.hardware;
  const tree = `${files.host}/tree`;
  const words = [
    `console=${board.console}`,
    ...kernelWords,
    ...(isEmulated ? board.emulatedWords : []),
    ...(iommu ? board.iommu.words : []),
    ...(start.kernelWords ?? []),
  ];
  const args = [
    ['-L', `${tree}/usr/share/qemu`],
    ['-L', `${tree}/usr/share/seabios`],
    ['-nodefaults'],
    ['-no-user-config'],
    ['-no-reboot'],
    ['-display', 'none'],
    ['-machine', board.machine + (iommu ? board.iommu.machine : '')],
    ['-smp', String(processors)],
    ['-m', String(memoryMiB)],
    ['-accel', isEmulated ? 'tcg,thread=multi' : 'kvm'],
    ['-cpu', isEmulated ? board.processor : 'host'],
    ...(iommu ? board.iommu.options : []),
    ...cards.flatMap((card, index) => inSlot(card, index, segments[index] ?? 0)),
    ...start.disks.flatMap(disk),
    ['-chardev', `file,id=console,path=${escaped(start.consoleLog)},append=on`],
    ['-serial', 'chardev:console'],
    ['-device', 'virtio-serial-pci'],
    ['-chardev', `socket,id=agent,fd=${descriptors.agent}`],
    ['-device', 'virtserialport,chardev=agent,name=lab'],
    ['-chardev', `socket,id=terminal,fd=${descriptors.terminal}`],
    ['-device', 'virtconsole,chardev=terminal'],
    ['-kernel', `${files.kernel}/kernel`],
    ['-initrd', start.initrd],
    ['-append', words.join(' ')],
  ];
  const [loader, loaderArgs] = hostProgram(tree, `usr/bin/${board.program}`, args.flat());
  return ['setpriv', ['--pdeathsig', 'KILL', loader, ...loaderArgs]];
}

/** Where a card is: behind which root port, on which segment. */
interface Slot {
  readonly port: string;
  readonly segment: number;
  /** The MAC of the card's N-th function. */
  readonly mac: (n: number) => string;
}

/** A card behind a root port of its own, so that each of its VFs gets an IOMMU group of its own too. */
function inSlot(card: (slot: Slot) => string[][], index: number, segment: number): string[][] {
  const port = `port${index}`;
  const two = (n: number) => String(n).padStart(2, '0');
  const mac = (n: number) => `02:00:00:00:${two(index + 1)}:${two(n)}`;
  return [
    ['-device', `pcie-root-port,id=${port},bus=pcie.0,chassis=${index + 1},slot=${index + 1}`],
    ...card({ port, segment, mac }),
  ];
}

function igb({ port, segment, mac }: Slot): string[][] {
  return [
    ['-netdev', `hubport,id=${port}net,hubid=${segment}`],
    ['-device', `igb,bus=${port},netdev=${port}net,mac=${mac(0)}`],
  ];
}

function nic(model: NicModel, { port, segment, mac }: Slot): string[][] {
  return [
    ['-netdev', `hubport,id=${port}net,hubid=${segment}`],
    ['-device', `${model},bus=${port},netdev=${port}net,mac=${mac(0)},romfile=`],
  ];
}

/** QEMU 11 makes functions of one slot a PF and its VFs; it wants the VFs first. Each has a connection of its own to the segment. */
function virtioCard({ port, segment, mac }: Slot): string[][] {
  const fn = (n: number, role: string): string[][] => [
    ['-netdev', `hubport,id=${port}net${n},hubid=${segment}`],
    [
      '-device',
      `virtio-net-pci,bus=${port},addr=0x0.0x${n},netdev=${port}net${n},mac=${mac(n)},romfile=,${role}`,
    ],
  ];
  return [...[3, 2, 1].flatMap((n) => fn(n, `sriov-pf=${port}pf`)), ...fn(0, `id=${port}pf`)];
}

function disk(path: string, index: number): string[][] {
  return [
    ['-blockdev', `driver=file,node-name=disk${index},filename=${escaped(path)},read-only=on`],
    ['-device', `virtio-blk-pci,drive=disk${index}`],
  ];
}

/** In QEMU's options a comma ends a value and two of them stand for one. */
function escaped(path: string): string {
  return path.replaceAll(',', ',,');
}
