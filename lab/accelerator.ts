import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { hostArch } from './arch.ts';
import type { LabFiles } from './cache.ts';
import { cpio } from './cpio.ts';
import { qemuCommand, type Accelerator } from './qemu.ts';

const probeTimeoutMs = 5_000;
const greeting = 'the guest is alive';

/**
 * KVM where it really runs a guest, else emulation. A present /dev/kvm proves nothing (nested virtualisation may start
 * and then fail at the first instructions), so the lab's kernel is booted once to its first process; the answer is kept
 * until the machine is booted again. `SRIOV_LAB_ACCEL` overrides it. A processor of another kind is always emulated.
 */
export async function chooseAccelerator(files: LabFiles, folder: string): Promise<Accelerator> {
  if (files.arch !== hostArch) return 'tcg';
  const chosen = process.env['SRIOV_LAB_ACCEL'];
  if (chosen === 'kvm' || chosen === 'tcg') return chosen;
  if (chosen) throw new Error(`Cannot use SRIOV_LAB_ACCEL="${chosen}": it is "kvm" or "tcg"`);
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const answer = `${files.kernel}.accelerator`;
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const [accelerator, answeredIn] = readIfThere(answer).trim().split(' ');
  if (answeredIn === bootId) return accelerator === 'kvm' ? 'kvm' : 'tcg';
  const found = (await kvmWorks(files, folder)) ? 'kvm' : 'tcg';
  writeFileSync(`${folder}/answer`, `${found} ${bootId}\n`);
  renameSync(`${folder}/answer`, answer);
  return found;
}

async function kvmWorks(files: LabFiles, folder: string): Promise<boolean> {
  const init = `#!/bin/busybox sh\necho ${greeting}\n/bin/busybox reboot -f\n`;
  const archive = Buffer.concat([
    readFileSync(`${files.kernel}/early.cpio`),
    cpio([{ path: 'init', data: Buffer.from(init) }]),
  ]);
  const initrd = `${folder}/probe.cpio`;
  const consoleLog = `${folder}/probe.log`;
  writeFileSync(initrd, archive);
  const command = qemuCommand({
    files,
    accelerator: 'kvm',
    hardware: { pfs: 0 },
    initrd,
    disks: [],
    consoleLog,
  });
  const qemu = spawn(...command, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
  const limit = setTimeout(() => qemu.kill('SIGKILL'), probeTimeoutMs);
  await once(qemu, 'exit');
  clearTimeout(limit);
  return readIfThere(consoleLog).includes(greeting);
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
