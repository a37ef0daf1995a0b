/**
 * Moving a VF's RDMA device, and keeping what it is called. The kernel takes its character devices away and makes them anew whenever it is
 * moved or its driver is bound, each time with the lowest number that is free. A device plugin has given a container /dev/infiniband/uverbsN
 * before: so one lock of the node keeps two from being without a number at the same time.
 */
import { Errno, isErrno, KernelError } from '../kernel/errno.ts';
import { nowMs } from '../kernel/clock.ts';
import { FileLock, makeFolder } from '../kernel/files.ts';
import { listRdma, moveRdma, type RdmaDevice, RdmaNetlink, renameRdma } from '../kernel/nldev.ts';
import type { Netns } from '../kernel/netns.ts';
import type { Around } from '../vf/carried-mac.ts';
import type { Host } from '../vf/host.ts';
import { NotUsable, type Vf, vfName } from '../vf/inventory.ts';
import { rdmaFiles, rdmaName, rdmaNames, type RdmaRecord, renumbered } from './rdma-device.ts';

/** A driver takes up to seconds to be bound anew, and any number of pods may want to at once. */
const lockTimeoutMs = 60_000;

const pauseMs = 10;

/** A dying namespace gives its devices back some 100 ms after its name is gone; a driver may make its own from a work queue. */
const deviceTimeoutMs = 5_000;

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pauseMs));
}

async function withNumbersLocked<T>(host: Host, step: () => Promise<T>): Promise<T> {
  makeFolder(host.stateDir);
  const path = `${host.stateDir}/rdma.lock`;
  const deadline = nowMs() + lockTimeoutMs;
  let lock: FileLock | undefined;
  // Tried and tried again: in a server other calls go on meanwhile, one of which may have it.
  while (!(lock = FileLock.take(path, 0))) {
    if (nowMs() > deadline)
      throw new KernelError('change an RDMA device', Errno.EBUSY, `another process keeps ${path}`);
    await pause();
  }
  try {
    return await step();
  } finally {
    lock[Symbol.dispose]();
  }
}

function isOnHost(host: Host, pci: string): boolean {
  return rdmaNames(host.sys, pci).length > 0;
}

/** Waits until something is so. */
async function awaitThat(isSo: () => boolean): Promise<boolean> {
  const deadline = nowMs() + deviceTimeoutMs;
  for (;;) {
    if (isSo()) return true;
    if (nowMs() > deadline) return false;
    await pause();
  }
}

/** How often a list is asked for again that does not have what sysfs says is there. */
const listTries = 30;

/**
 * The VF's device in a namespace. The kernel lists one device per message and goes on by position: one that comes or goes meanwhile makes it
 * pass over another (nldev_get_dumpit, without NLM_F_DUMP_INTR), so what is missing is looked for again.
 * @param rdma a socket of that namespace
 * @param index what it had when it was last seen: a driver that was bound anew since then has made another one
 */
async function findRdma(
  host: Host,
  place: Netns,
  rdma: RdmaNetlink,
  pci: string,
  index: number | undefined,
): Promise<RdmaDevice | undefined> {
  for (let tries = 1; ; tries++) {
    const all = await listRdma(rdma);
    const name = rdmaName(host.sys, pci);
    const found = all.find((device) => device.index === index) ?? all.find((device) => device.name === name);
    const isExpected = name !== undefined && isOnHost(host, pci) === (place === host.netns);
    if (found || !isExpected || tries === listTries) return found;
    await pause();
  }
}

/** How often a name is tried that another device has: that may be the last one of this VF, on its way out. */
const nameTries = 50;

/** Gives a device on the host the name that it had. */
async function restoreName(host: Host, pci: string, { name, index }: RdmaRecord): Promise<void> {
  if (!isOnHost(host, pci) || rdmaName(host.sys, pci) === name) return;
  using rdma = new RdmaNetlink(host.netns);
  const device = await findRdma(host, host.netns, rdma, pci, index);
  if (!device || device.name === name) return;
  const fields = { vf: pci, from: device.name, name };
  for (let tries = 1; ; tries++) {
    try {
      await host.log.change('RDMA device renamed', fields, () => renameRdma(rdma, device, name));
      return;
    } catch (error) {
      if (!isErrno(error, Errno.EEXIST)) throw error;
    }
    if (tries === nameTries) break;
    await pause();
  }
  host.log.warning('the name of its RDMA device is taken', { vf: pci, name, newName: device.name });
}

/**
 * What is done around binding the VF's driver anew: nobody else's device is without a number meanwhile, and the one that comes with the
 * driver is waited for, and gets the name that the last one had. Only the binding itself is under the lock: whoever has it must not wait
 * for another VF's netdev.
 */
export function keepingRdma(host: Host, pci: string, record: RdmaRecord): Around {
  const { length } = record.files;
  // A device is registered before its files, and loses them before it goes. One that has them and is not on the host has been moved away by
  // somebody else.
  const isBack = () => {
    const { length: count } = rdmaNames(host.sys, pci);
    return count < 2 && rdmaFiles(host.sys, pci).length >= length && (length > 0 || count > 0);
  };
  return (bind) =>
    withNumbersLocked(host, async () => {
      const value = await bind();
      if (!(await awaitThat(isBack)))
        host.log.warning('its RDMA device does not come back', { vf: pci, rdma: record.name });
      await restoreName(host, pci, record);
      return value;
    });
}

/** Gives a device that is back on the host the name that it had; the files that it has now are the kernel's choice. */
export async function restoreRdma(host: Host, pci: string, record: RdmaRecord): Promise<void> {
  if (rdmaName(host.sys, pci) !== record.name)
    await withNumbersLocked(host, () => restoreName(host, pci, record));
  const files = renumbered(host.sys, pci, record);
  if (files !== undefined) host.log.warning('its RDMA device has other files', { vf: pci, files });
}

/**
 * Moves the device into a pod.
 * @returns its index, a new one if the driver was bound anew
 * @throws NotUsable, KernelError
 */
export async function moveRdmaIntoPod(
  host: Host,
  pod: Netns,
  vf: Vf,
  { index, name }: RdmaRecord,
): Promise<number> {
  using rdma = new RdmaNetlink(host.netns);
  return await host.log.change('RDMA device moved into the pod', { vf: vf.pci, rdma: name }, () =>
    withNumbersLocked(host, async () => {
      const device = await findRdma(host, host.netns, rdma, vf.pci, index);
      if (!device)
        throw new NotUsable(`The RDMA device ${name} of ${vfName(vf)} is not on the host any more`);
      await moveRdma(rdma, device, pod);
      return device.index;
    }),
  );
}

/**
 * Takes the device back to the host, or waits until a dying namespace has given it back.
 * @param pod where it was put, if that is still there
 * @returns false if something still holds it elsewhere
 */
export async function moveRdmaToHost(
  host: Host,
  pod: Netns | undefined,
  pci: string,
  record: RdmaRecord,
): Promise<boolean> {
  if (isOnHost(host, pci)) return true;
  if (pod) {
    using rdma = new RdmaNetlink(pod);
    const device = await findRdma(host, pod, rdma, pci, record.index);
    if (device) {
      const fields = { vf: pci, rdma: record.name };
      await host.log.change('RDMA device moved back to the host', fields, () =>
        withNumbersLocked(host, () => moveRdma(rdma, device, host.netns)),
      );
      return true;
    }
  }
  if (await awaitThat(() => isOnHost(host, pci))) return true;
  if (rdmaName(host.sys, pci) !== undefined) return false;
  host.log.warning('its RDMA device is gone', { vf: pci, rdma: record.name });
  return true;
}

/** What is not as it was attached: for CHECK. */
export async function rdmaDifferences(
  host: Host,
  place: Netns,
  pci: string,
  record: RdmaRecord,
): Promise<string[]> {
  using rdma = new RdmaNetlink(place);
  const device = await findRdma(host, place, rdma, pci, record.index);
  const where = record.moves ? `in the pod's namespace "${place.path}"` : 'on the host';
  if (!device) return [`its RDMA device ${record.name} is not ${where}`];
  const files = renumbered(host.sys, pci, record);
  return [
    ...(device.name === record.name ? [] : [`RDMA device is ${device.name}, was ${record.name}`]),
    ...(files === undefined ? [] : [`its files in /dev/infiniband differ: ${files}`]),
  ];
}
