import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
} from 'node:fs';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { chooseAccelerator } from './accelerator.ts';
import { labArch } from './arch.ts';
import { provide, type LabFiles } from './cache.ts';
import { cpio } from './cpio.ts';
import { executableFor } from './engine.ts';
import { packImage } from './image.ts';
import { labKernel } from './kernels.ts';
import { Machine } from './machine.ts';
import type { Disk } from './packages.ts';
import { qemuCommand, type Hardware } from './qemu.ts';

const here = import.meta.dirname;

export interface LabOptions extends Hardware {
  /** What stands at /opt/cni/bin/sriov in the guest (default: what `make build` made, if it did). */
  readonly executable?: string;
  /** More files, as they are when the machine starts: path in the guest -> path on the host. */
  readonly files?: Readonly<Record<string, string>>;
  /** Disks to stack on the base system. */
  readonly disks?: readonly Disk[];
  /** Whether the cards' drivers are loaded at start (default true). */
  readonly drivers?: boolean;
  readonly bootTimeoutMs?: number;
}

/** Starts the virtual machine and waits until it takes commands. Fetches what it needs on first use. */
export async function startLab(options: LabOptions = {}): Promise<Machine> {
  const { arch = labArch, kernel = labKernel, disks = [], drivers = true, bootTimeoutMs = 90_000 } = options;
  const files = await provide(['base', ...disks], arch, kernel);
  const folder = mkdtempSync(`${tmpdir()}/sriov-lab-`);
  const [job, initrd, consoleLog] = ['job.erofs', 'initrd', 'console.log'].map(
    (name) => `${folder}/${name}`,
  ) as [string, string, string];
  const accelerator = await chooseAccelerator(files, folder);
  await packJob(files, options, job);
  const init = cpio([{ path: 'init', data: readFileSync(`${here}/guest/init`) }]);
  writeFileSync(initrd, Buffer.concat([readFileSync(`${files.kernel}/early.cpio`), init]));
  const command = qemuCommand({
    files,
    accelerator,
    hardware: options,
    initrd,
    disks: [
      files.disks.base,
      `${files.kernel}/modules.erofs`,
      ...disks.map((name) => files.disks[name]),
      job,
    ],
    consoleLog,
    kernelWords: drivers ? [] : ['lab.drivers=0'],
  });
  const log = openSync(consoleLog, 'a');
  const machine = new Machine(command, folder, log);
  closeSync(log);
  try {
    await machine.booted(bootTimeoutMs);
    if (drivers) await loadDrivers(machine, options);
  } catch (error) {
    await machine.stop();
    throw error;
  } finally {
    // QEMU has them open: nothing large is left behind, however this process ends.
    for (const path of [job, initrd]) rmSync(path, { force: true });
  }
  return machine;
}

/** The drivers that the initial RAM file system has not loaded: nothing in the guest does it by itself. */
async function loadDrivers(machine: Machine, { virtioPfs = 0, nics = [] }: Hardware): Promise<void> {
  if (virtioPfs > 0 || nics.includes('virtio-net-pci')) await machine.output('modprobe virtio_net');
  if (nics.includes('e1000e')) await machine.output('modprobe e1000e');
}

/** Makes the topmost disk: the agent, the executable and the caller's files, at their paths in the guest. */
async function packJob(files: LabFiles, options: LabOptions, image: string): Promise<void> {
  const built = executableFor(files.arch);
  const executable = options.executable ?? (existsSync(built) ? built : undefined);
  const content = {
    '/lab/agent.pl': `${here}/guest/agent.pl`,
    ...(executable !== undefined && { '/opt/cni/bin/sriov': executable }),
    ...options.files,
  };
  const root = `${image}.root`;
  for (const [guestPath, hostPath] of Object.entries(content)) {
    const path = `${root}/${guestPath}`;
    mkdirSync(dirname(path), { recursive: true });
    try {
      linkSync(hostPath, path);
    } catch {
      copyFileSync(hostPath, path);
    }
  }
  await packImage(`${files.host}/tree`, root, image);
  rmSync(root, { recursive: true });
}
