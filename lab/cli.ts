import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { architecture, labArch } from './arch.ts';
import { provide } from './cache.ts';
import { fetchMissing } from './fetch.ts';
import { kernelName, kernels, labKernel, usualKernel } from './kernels.ts';
import { startLab, type LabOptions } from './lab.ts';
import type { Machine } from './machine.ts';
import { disks, type Disk } from './packages.ts';
import type { NicModel } from './qemu.ts';

const usage = `Usage: lab/cli.ts [COMMAND] [OPTIONS]
  shell         a root shell in the lab, on this terminal (the default; reads commands where there is no terminal)
  run SCRIPT    runs the script in the lab and exits with its exit code
  fetch         only fetches what the lab needs
Options:
  --arch NAME         the machine's processor, x64 or arm64 (the variable ARCH; else this machine's)
  --kernel NAME       its kernel, ${Object.keys(kernels).join(', ')} (the variable KERNEL; else ${usualKernel})
  --pfs N             number of emulated 82576 cards (2)
  --virtio-pfs N      number of SR-IOV virtio cards with three VFs (0)
  --nic MODEL         a NIC without SR-IOV, e1000e or virtio-net-pci; may be repeated
  --segments N,N,...  the Ethernet segment of each card and NIC (all on one)
  --no-iommu          a machine without IOMMU
  --no-drivers        leave the drivers of all these unloaded
  --disk NAME         also: ${Object.keys(disks).slice(1).join(', ')}; may be repeated
  --file PATH         lies beside the script in its folder; may be repeated
  --executable PATH   what becomes /opt/cni/bin/sriov (the built one that the variable ENGINE
                      chooses, static or node; if it is there)
`;

const workFolder = '/work';

function commandLine() {
  return parseArgs({
    allowPositionals: true,
    allowNegative: true,
    options: {
      arch: { type: 'string', default: labArch },
      kernel: { type: 'string', default: labKernel },
      pfs: { type: 'string' },
      'virtio-pfs': { type: 'string' },
      nic: { type: 'string', multiple: true, default: [] },
      segments: { type: 'string' },
      iommu: { type: 'boolean' },
      drivers: { type: 'boolean' },
      disk: { type: 'string', multiple: true, default: [] },
      file: { type: 'string', multiple: true, default: [] },
      executable: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
}

async function main(): Promise<number> {
  const { values, positionals } = commandLine();
  const [command = 'shell', script, ...rest] = positionals;
  const wanted = values.disk.map(diskName);
  const arch = architecture(values.arch);
  const kernel = kernelName(values.kernel);
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  if (command === 'fetch') {
    await provide(['base', ...wanted], arch, kernel);
    return 0;
  }
  if (command === 'fetch-locked') {
    await fetchMissing(['base', ...wanted], arch, kernel);
    return 0;
  }
  if (
    rest.length > 0 ||
    (command === 'run') !== (script !== undefined) ||
    !['run', 'shell'].includes(command)
  ) {
    process.stderr.write(usage);
    return 2;
  }
  const paths = script === undefined ? values.file : [script, ...values.file];
  const options: LabOptions = {
    arch,
    kernel,
    disks: wanted,
    files: Object.fromEntries(paths.map((path) => [`${workFolder}/${basename(path)}`, path])),
    ...(values.pfs !== undefined && { pfs: count(values.pfs) }),
    nics: values.nic.map(nicModel),
    ...(values['virtio-pfs'] !== undefined && { virtioPfs: count(values['virtio-pfs']) }),
    ...(values.segments !== undefined && { segments: values.segments.split(',').map(count) }),
    ...(values.iommu !== undefined && { iommu: values.iommu }),
    ...(values.drivers !== undefined && { drivers: values.drivers }),
    ...(values.executable !== undefined && { executable: values.executable }),
  };
  process.stderr.write('lab: starting\n');
  const start = Date.now();
  const machine = await startLab(options);
  process.stderr.write(`lab: ready after ${((Date.now() - start) / 1000).toFixed(1)} s\n`);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => void machine.stop().finally(() => process.exit(130)));
  }
  try {
    if (script !== undefined) return await runScript(machine, basename(script));
    return process.stdin.isTTY ? await terminalShell(machine) : await pipedShell(machine);
  } finally {
    await machine.stop();
  }
}

function diskName(name: string): Disk {
  if (!Object.hasOwn(disks, name))
    throw new Error(`No disk "${name}": there are ${Object.keys(disks).join(', ')}`);
  return name as Disk;
}

function nicModel(name: string): NicModel {
  if (name !== 'e1000e' && name !== 'virtio-net-pci')
    throw new Error(`No NIC "${name}": there are e1000e and virtio-net-pci`);
  return name;
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`Not a number: "${text}"`);
  return Number(text);
}

/** The script's output passes through as it comes. */
async function runScript(machine: Machine, name: string): Promise<number> {
  const { code } = await machine.run(`cd ${workFolder}; chmod +x "./$name"; "./$name"`, {
    env: { name },
    timeoutMs: 0,
    onOutput: passThrough,
  });
  return code;
}

async function pipedShell(machine: Machine): Promise<number> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  const stdin = Buffer.concat(chunks);
  const { code } = await machine.run('exec bash', { stdin, timeoutMs: 0, onOutput: passThrough });
  return code;
}

function passThrough(stream: 'stdout' | 'stderr', bytes: Buffer): void {
  process[stream].write(bytes);
}

/** An interactive shell: the guest's terminal /dev/hvc0 and this one are connected, and of one size. */
async function terminalShell(machine: Machine): Promise<number> {
  const resize = () => {
    const { rows, columns } = process.stdout;
    void machine.run(`stty -F /dev/hvc0 rows ${rows} cols ${columns}`).catch(() => undefined);
  };
  resize();
  process.stdout.on('resize', resize);
  process.stderr.write(
    'lab: the machine is gone when this shell ends. Virtual functions: echo 2 >/sys/class/net/eth0/device/sriov_numvfs\n',
  );
  process.stdin.setRawMode(true);
  process.stdin.pipe(machine.terminal);
  machine.terminal.pipe(process.stdout);
  try {
    const env = { TERM: process.env['TERM'] ?? 'linux' };
    const script = `mkdir -p ${workFolder}; cd ${workFolder}; exec setsid --ctty --wait bash -i </dev/hvc0 >/dev/hvc0 2>&1`;
    return (await machine.run(script, { env, timeoutMs: 0 })).code;
  } finally {
    process.stdin.setRawMode(false);
    process.stdin.unpipe(machine.terminal);
    process.stdin.pause();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`lab: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
