import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Errno } from '../../../src/kernel/errno.ts';
import { FileLock } from '../../../src/kernel/files.ts';
import { writerErrno } from '../../../src/kernel/system.ts';
import { driverOverride, hasFlr, unbindWithin } from '../../../src/kernel/pci-driver.ts';
import { devices, pfTree, sysfsTree } from '../../support/sysfs-tree.ts';

const pci = '0000:01:10.0';
const igb = pfTree({ pci: '0000:01:00.0' });
const unbind = { bus: { pci: { drivers: { igbvf: { unbind: '' } } } } };

test.each([
  ['(null)\n', undefined],
  ['\n', undefined],
  ['vfio-pci\n', 'vfio-pci'],
])('driver_override %j is %s', (text, driver) => {
  using tree = sysfsTree(igb, devices({ [pci]: { driver_override: text } }));
  expect(driverOverride(tree.sys, pci)).toBe(driver);
});

test.each([
  ['flr\n', true],
  ['device_specific flr bus\n', true],
  ['pm bus\n', false],
  [undefined, false],
])('reset_method %j: FLR %s', (text, has) => {
  using tree = sysfsTree(igb, text === undefined ? {} : devices({ [pci]: { reset_method: text } }));
  expect(hasFlr(tree.sys, pci)).toBe(has);
});

test('an unbind that blocks is left behind, and holds the lock until it has ended', async () => {
  using tree = sysfsTree(igb, unbind);
  const fifo = `${tree.sys.root}/bus/pci/drivers/igbvf/unbind`;
  rmSync(fifo);
  execFileSync('mkfifo', [fifo]); // whoever opens it for writing waits for a reader
  const path = `${tree.sys.root}/lock`;
  const lock = FileLock.take(path, 0);
  expect(await unbindWithin(tree.sys, pci, 50, lock?.fd ?? -1)).toBe(false);
  lock?.[Symbol.dispose]();
  expect(FileLock.take(path, 0)).toBeUndefined();
  expect(readFileSync(fifo, 'utf8')).toBe(pci);
  using again = FileLock.take(path, 1000);
  expect(again).toBeDefined();
});

test('an unbind that does not block is waited for, and its error is told', async () => {
  using tree = sysfsTree(igb, unbind);
  expect(await unbindWithin(tree.sys, pci, 1000, 0)).toBe(true);
  expect(readFileSync(`${tree.sys.root}/bus/pci/drivers/igbvf/unbind`, 'utf8')).toBe(pci);
  rmSync(`${tree.sys.root}/bus/pci/drivers/igbvf/unbind`);
  await expect(unbindWithin(tree.sys, pci, 1000, 0)).rejects.toThrow(
    `Cannot unbind ${pci} from its driver: ENOENT`,
  );
});

test.each([
  [0, 0],
  [Errno.EBUSY, Errno.EBUSY],
  [212, Errno.ENOTSUPP], // 524 does not fit into an exit code
])('the exit code %d of a child that writes is errno %d', (code, errno) => {
  expect(writerErrno(code)).toBe(errno);
});
