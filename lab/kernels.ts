/** Kernels that the lab's machine can have. */

interface DebianKernel {
  /** Debian's release that has it. */
  readonly release: string;
  /** What this one has as modules, beside those of all kernels: below `/lib/modules/VERSION/kernel`. */
  readonly modules: readonly string[];
}

const console = 'drivers/char/virtio_console.*';

export const kernels = {
  '5.10': { release: 'bullseye', modules: [console, 'drivers/ptp/ptp.*', 'drivers/pps/pps_core.*'] },
  '6.1': { release: 'bookworm', modules: [console] },
  '6.12': { release: 'trixie', modules: [] },
  // Whatever that is when it is fetched. Its soft-RoCE can be moved between namespaces as it is.
  newest: { release: 'trixie-backports', modules: ['drivers/infiniband/sw'] },
} satisfies Record<string, DebianKernel>;

export type KernelName = keyof typeof kernels;

export function kernelName(word: string): KernelName {
  if (Object.hasOwn(kernels, word)) return word as KernelName;
  throw new Error(`No such kernel "${word}": known are ${Object.keys(kernels).join(', ')}`);
}

export const usualKernel = '6.12' satisfies KernelName;

/** The one of the lab's machine, unless a caller says otherwise: the variable KERNEL chooses. */
export const labKernel = kernelName(process.env['KERNEL'] || usualKernel);
