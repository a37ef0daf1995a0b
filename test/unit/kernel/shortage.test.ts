import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { Errno, isErrno } from '../../../src/kernel/errno.ts';
import { holdersOfDevices } from '../../../src/kernel/holders.ts';
import { system } from '../../../src/kernel/system.ts';
import { sysfsTree } from '../../support/sysfs-tree.ts';

/** Runs something in this process while no descriptor is to be had in it. */
function withoutDescriptors<T>(call: () => T): T {
  const limit = (value: string) =>
    execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${value}:`]);
  const [soft = ''] = execFileSync('sh', ['-c', 'ulimit -Sn'], { encoding: 'utf8' }).trim().split('\n');
  limit('256');
  const taken: number[] = [];
  try {
    for (;;) taken.push(system.open('/dev/null', system.O_RDONLY));
  } catch (error) {
    if (!isErrno(error, Errno.EMFILE)) throw error;
    return call();
  } finally {
    for (const fd of taken) system.close(fd);
    limit(soft);
  }
}

test('without descriptors nobody can say who has a device open, nor what sysfs has', () => {
  using tree = sysfsTree({ class: { net: { eth0: { mtu: '1500\n' } } } });
  const looks: Readonly<Record<string, () => unknown>> = {
    holders: () => holdersOfDevices(['244:0']),
    list: () => tree.sys.list('class/net'),
    read: () => tree.sys.read('class/net/eth0/mtu'),
  };
  for (const [name, look] of Object.entries(looks)) {
    expect(() => look(), name).not.toThrow();
    expect(() => withoutDescriptors(look), name).toThrow('EMFILE');
  }
});
