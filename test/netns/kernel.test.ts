import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Errno, KernelError, NotANetns } from '../../src/kernel/errno.ts';
import { FileLock } from '../../src/kernel/files.ts';
import { getLinkByName, listLinks, setLink, setVf } from '../../src/kernel/link.ts';
import { isSameNetns, Netns } from '../../src/kernel/netns.ts';
import { findProgram, finish, start } from '../../src/kernel/process.ts';
import { TestNetns } from '../support/netns.ts';

describe('Netns', () => {
  test('tells namespaces apart, whatever path leads to them', () => {
    using a = new TestNetns();
    using b = new TestNetns();
    using first = a.open();
    using again = a.open();
    using other = b.open();
    expect(isSameNetns(first.identity, again.identity)).toBe(true);
    expect(isSameNetns(first.identity, other.identity)).toBe(false);
    expect(first.identity.cookie).toMatch(/^\d+$/);
  });

  test('is not fooled by an inode that is used again', () => {
    const identities = Array.from({ length: 3 }, () => {
      using netns = new TestNetns();
      using opened = netns.open();
      return opened.identity;
    });
    expect(new Set(identities.map((identity) => identity.cookie)).size).toBe(3);
    expect(isSameNetns({ inode: 1, cookie: '5' }, { inode: 1, cookie: '6' })).toBe(false);
    expect(isSameNetns({ inode: 1 }, { inode: 1 })).toBe(true); // before Linux 5.14: the best there is
  });

  test.each(['/etc/hostname', '/proc/self/status'])('%s is not one', (path) => {
    expect(() => Netns.open(path)).toThrow(NotANetns);
  });

  test('of another kind is not one', () => {
    expect(() => Netns.open('/proc/self/ns/mnt')).toThrow();
  });

  test('its socket stays in it, and the process comes back', async () => {
    using netns = new TestNetns();
    using pod = netns.open();
    using home = Netns.current();
    expect((await listLinks(pod.rtnl)).map((link) => link.ifname)).toEqual(['lo']);
    expect(pod.inside(() => readFileSync('/proc/net/dev', 'utf8'))).not.toContain('eth0');
    using now = Netns.current();
    expect(isSameNetns(home.identity, now.identity)).toBe(true);
  });

  test('comes back from a function that throws', () => {
    using netns = new TestNetns();
    using pod = netns.open();
    using home = Netns.current();
    expect(() =>
      pod.inside(() => {
        throw new Error('x');
      }),
    ).toThrow('x');
    using now = Netns.current();
    expect(isSameNetns(home.identity, now.identity)).toBe(true);
  });
});

describe('Rtnetlink', () => {
  test('finds a link by name and by alternative name', async () => {
    using netns = new TestNetns();
    using pod = netns.open();
    const longName = 'an-alternative-name-of-more-than-fifteen';
    netns.ip('link', 'property', 'add', 'dev', 'lo', 'altname', longName);
    expect((await getLinkByName(pod.rtnl, 'lo'))?.altnames).toEqual([longName]);
    expect((await getLinkByName(pod.rtnl, longName))?.ifname).toBe('lo');
    expect(await getLinkByName(pod.rtnl, 'nope')).toBeUndefined();
  });

  test("carries errno, operation and the kernel's own words", async () => {
    using netns = new TestNetns();
    using pod = netns.open();
    netns.ip('link', 'add', 'v1', 'type', 'veth', 'peer', 'name', 'v2');
    const link = await getLinkByName(pod.rtnl, 'v1');
    const failure: unknown = await setLink(pod.rtnl, 'set the MTU of v1', link?.ifindex ?? 0, {
      mtu: 1_000_000,
    }).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(KernelError);
    expect(failure).toMatchObject({
      operation: 'set the MTU of v1',
      errno: Errno.EINVAL,
      code: 'EINVAL',
      hint: 'mtu greater than device maximum',
    });
  });

  test('reports a link without VFs as such', async () => {
    using netns = new TestNetns();
    using pod = netns.open();
    await expect(setVf(pod.rtnl, 'set VF 1', 1, { trust: { vf: 1, setting: 1 } })).rejects.toMatchObject({
      code: 'EOPNOTSUPP',
    });
  });
});

describe('programs', () => {
  test('get their stdin, environment and arguments, and give exit code and output', () => {
    const child = start(
      '/bin/sh',
      ['-c', 'cat; printf %s "$X-$1"; exit 3', 'sh', 'arg'],
      { X: 'env', Y: undefined },
      'in-'.repeat(100_000),
    );
    const ended = finish(child);
    expect(ended?.code).toBe(3);
    expect(ended?.stdout).toBe('in-'.repeat(100_000) + 'env-arg');
  });

  test('that do not exist are an error', () => {
    expect(() => start('/nonexistent', [], {}, '')).toThrow(expect.objectContaining({ errno: Errno.ENOENT }));
  });

  test('can be waited for in vain', () => {
    const child = start('/bin/sleep', ['1'], {}, '');
    expect(finish(child, 20)).toBeUndefined();
    expect(finish(child)?.code).toBe(0);
  });

  test('start with default signal handling', () => {
    const child = start('/bin/sh', ['-c', 'grep SigIgn /proc/self/status'], {}, '');
    // Bit 31 is glibc's own signal 32, which it lets nobody change.
    expect(finish(child)?.stdout).toMatch(/SigIgn:\s+00000000[08]0000000/);
  });

  test('are killed when we are', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const script = `
      import { start } from ${JSON.stringify(join(process.cwd(), 'src/kernel/process.ts'))};
      start('/bin/sh', ['-c', 'sleep 1; touch ${folder}/alive'], {}, '');
      process.kill(process.pid, 'SIGKILL');`;
    expect(spawnSync(process.execPath, ['--input-type=module', '-e', script]).signal).toBe('SIGKILL');
    spawnSync('sleep', ['1.5']);
    expect(existsSync(join(folder, 'alive'))).toBe(false);
    rmSync(folder, { recursive: true });
  });

  test('are looked for in every folder of the path', () => {
    expect(findProgram('sh', '/nonexistent::/etc:/bin')).toBe('/bin/sh');
    expect(findProgram('passwd', '/etc')).toBeUndefined(); // not executable
    expect(findProgram('netns', '/run')).toBeUndefined();
  });
});

describe('FileLock', () => {
  test('excludes others, waits for them, and can give up', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const path = join(folder, 'lock');
    const lock = FileLock.take(path, 0);
    expect(lock).toBeDefined();
    const begin = performance.now();
    expect(FileLock.take(path, 200)).toBeUndefined();
    expect(performance.now() - begin).toBeGreaterThan(190);
    lock?.[Symbol.dispose]();
    using again = FileLock.take(path, 0);
    expect(again).toBeDefined();
    rmSync(folder, { recursive: true });
  });

  test('is taken as soon as it is given back', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const path = join(folder, 'lock');
    const holder = start('/usr/bin/flock', [path, 'sleep', '0.3'], { PATH: '/usr/bin:/bin' }, '');
    spawnSync('sleep', ['0.1']);
    const begin = performance.now();
    using lock = FileLock.take(path, 5000);
    expect(lock).toBeDefined();
    expect(performance.now() - begin).toBeLessThan(1000);
    finish(holder);
    rmSync(folder, { recursive: true });
  });

  test('is shared with a program that keeps it, until that is gone', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const path = join(folder, 'lock');
    const lock = FileLock.take(path, 0);
    const child = start('/bin/sleep', ['0.3'], {}, '', lock ? [lock.fd] : []);
    lock?.[Symbol.dispose]();
    expect(FileLock.take(path, 0)).toBeUndefined();
    using later = FileLock.take(path, 5000);
    expect(later).toBeDefined();
    finish(child);
    rmSync(folder, { recursive: true });
  });
});
