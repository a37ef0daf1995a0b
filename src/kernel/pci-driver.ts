import { KernelError } from './errno.ts';
import { whenEnded } from './process.ts';
import { system, writerErrno } from './system.ts';
import type { Sysfs } from './sysfs.ts';

/** Binding of PCI devices to drivers. Everything here is synchronous in the kernel: when a write returns, it has happened. */

function device(pci: string): string {
  return `bus/pci/devices/${pci}`;
}

export function boundDriver(sys: Sysfs, pci: string): string | undefined {
  return sys.linkName(`${device(pci)}/driver`);
}

/** Whether a driver of that name is loaded. */
export function hasDriver(sys: Sysfs, driver: string): boolean {
  return sys.exists(`bus/pci/drivers/${driver}`);
}

/** Takes the device from its driver. @throws the write's error; ENODEV if no driver is bound */
export function unbindDriver(sys: Sysfs, pci: string): void {
  sys.write(`${device(pci)}/driver/unbind`, pci);
}

/**
 * Like {@link unbindDriver}, for a driver that waits until nobody has the device open: vfio does so where no signal reaches the writer
 * ("Device is currently in use, task blocked until device is released", vfio_unregister_group_dev). So a child writes.
 * @param keptFd stays open in the child, which may outlive us: a lock of it is given back only when the device is unbound
 * @returns false if it still waits after timeoutMs
 * @throws KernelError
 */
export function unbindWithin(sys: Sysfs, pci: string, timeoutMs: number, keptFd: number): Promise<boolean> {
  return writeWithin(
    sys,
    `${device(pci)}/driver/unbind`,
    pci,
    timeoutMs,
    keptFd,
    `unbind ${pci} from its driver`,
  );
}

async function writeWithin(
  sys: Sysfs,
  file: string,
  value: string,
  timeoutMs: number,
  keptFd: number,
  operation: string,
): Promise<boolean> {
  const code = await whenEnded(system.writeInChild(`${sys.root}/${file}`, value, keptFd), timeoutMs);
  if (code < 0) return false;
  const errno = writerErrno(code);
  if (errno > 0) throw new KernelError(operation, errno);
  return true;
}

/** Gives the device to a driver that knows it by its IDs or by driver_override. @throws the probe's error */
export function bindDriver(sys: Sysfs, pci: string, driver: string): void {
  sys.write(`bus/pci/drivers/${driver}/bind`, pci);
}

/** The only driver that the device may be bound to; undefined if its IDs tell. */
export function driverOverride(sys: Sysfs, pci: string): string | undefined {
  const text = sys.read(`${device(pci)}/driver_override`);
  return text === '' || text === '(null)' ? undefined : text;
}

export function setDriverOverride(sys: Sysfs, pci: string, driver: string | undefined): void {
  sys.write(`${device(pci)}/driver_override`, `${driver ?? ''}\n`); // an empty line clears it
}

/** Whether the device can be reset by itself (function level reset). Linux 5.15 and later tell. */
export function hasFlr(sys: Sysfs, pci: string): boolean {
  return (sys.read(`${device(pci)}/reset_method`) ?? '').split(' ').includes('flr');
}

/**
 * Resets the device in a child, as {@link unbindWithin} unbinds it: it may wait for the device, and for whoever has the device's lock, where
 * no signal reaches the writer.
 * @returns false if it still waits after timeoutMs
 * @throws KernelError
 */
export function resetWithin(sys: Sysfs, pci: string, timeoutMs: number, keptFd: number): Promise<boolean> {
  return writeWithin(sys, `${device(pci)}/reset`, '1', timeoutMs, keptFd, `reset ${pci}`);
}
