import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Errno, KernelError, NotANetns } from '../../src/kernel/errno.ts';
import { FileLock, readFile } from '../../src/kernel/files.ts';
import { linkHeader, linkMessage } from '../../src/kernel/link-message.ts';
import { getLinkByName, listLinks, RTNLGRP_LINK, setLink, setVf } from '../../src/kernel/link.ts';
import { openSocket as openDirect } from '../../src/kernel/netlink-direct.ts';
import { openSocket as openPackage } from '../../src/kernel/netlink-package.ts';
import { Rtnetlink } from '../../src/kernel/netlink.ts';
import { isSameNetns, Netns } from '../../src/kernel/netns.ts';
import {
  abandon,
  findProgram,
  finish,
  give,
  maxOutputBytes,
  pipeBytes,
  start,
  startWaiting,
} from '../../src/kernel/process.ts';
import { system } from '../../src/kernel/system.ts';
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

  test('nor is a FIFO, at which nobody waits', () => {
    const folder = mkdtempSync(`${tmpdir()}/sriov-test-`);
    execFileSync('mkfifo', [`${folder}/fifo`]);
    // Whoever waits there would never be heard of again.
    const rescue = spawn('sh', ['-c', `sleep 3; exec 3<> ${folder}/fifo; sleep 1`]);
    const begin = performance.now();
    expect(() => Netns.open(`${folder}/fifo`)).toThrow(NotANetns);
    expect(performance.now() - begin).toBeLessThan(2_000);
    rescue.kill();
    rmSync(folder, { recursive: true });
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

  test('tells no PCI address of links that have none, nor of one that has just gone', () => {
    using netns = new TestNetns();
    netns.ip('link', 'add', 'left', 'type', 'veth', 'peer', 'name', 'right');
    using pod = netns.open();
    expect(['lo', 'left', 'gone'].map((name) => pod.inside(() => system.busInfo(name)))).toEqual([
      '',
      '',
      '',
    ]);
  });

  test('that cannot be opened for want of descriptors keeps none', async () => {
    using netns = new TestNetns();
    netns.open()[Symbol.dispose](); // what is opened once for good is open now
    const soft = /open files +(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    const limit = (files: unknown) =>
      execFileSync('prlimit', ['--pid', `${process.pid}`, `--nofile=${String(files)}:`]);
    const openFiles = async () => {
      await setImmediate(); // libuv closes when its turn comes
      return readdirSync('/proc/self/fd').length;
    };
    const fillers: number[] = [];
    const left: number[] = [];
    const answers: string[] = [];
    const before = await openFiles();
    limit(before + 100);
    try {
      for (let free = 0; free < 9; free++) {
        expect(() => {
          for (;;) fillers.push(openSync('/dev/null', 'r'));
        }).toThrow('EMFILE');
        for (const fd of fillers.splice(0, free)) closeSync(fd);
        try {
          netns.open()[Symbol.dispose]();
          answers.push('opened');
        } catch (error) {
          answers.push(String(error));
        }
        for (const fd of fillers.splice(0)) closeSync(fd);
        left.push((await openFiles()) - before);
      }
    } finally {
      for (const fd of fillers) closeSync(fd);
      limit(soft);
    }
    expect(left).toEqual(Array(9).fill(0));
    // However many it needs: it failed at each of them, and then did not.
    const needed = answers.indexOf('opened');
    expect(needed).toBeGreaterThan(2);
    for (const answer of answers.slice(0, needed)) expect(answer).toMatch(/too many open files|EMFILE/);
    expect(new Set(answers.slice(needed))).toEqual(new Set(['opened']));
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

describe.each([
  ['of the netlink package', openPackage],
  ['of our own', openDirect],
])('Rtnetlink over a socket %s', (_, openSocket) => {
  function stage() {
    const netns = new TestNetns();
    const pod = netns.open();
    const rtnl = pod.inside(() => new Rtnetlink(openSocket()));
    return {
      netns,
      rtnl,
      [Symbol.dispose]: () => {
        rtnl.close();
        pod[Symbol.dispose]();
        netns[Symbol.dispose]();
      },
    };
  }

  test('finds a link by name and by alternative name', async () => {
    using s = stage();
    const longName = 'an-alternative-name-of-more-than-fifteen';
    s.netns.ip('link', 'property', 'add', 'dev', 'lo', 'altname', longName);
    expect((await getLinkByName(s.rtnl, 'lo'))?.altnames).toEqual([longName]);
    expect((await getLinkByName(s.rtnl, longName))?.ifname).toBe('lo');
    expect(await getLinkByName(s.rtnl, 'nope')).toBeUndefined();
  });

  test("carries errno, operation and the kernel's own words", async () => {
    using s = stage();
    s.netns.ip('link', 'add', 'v1', 'type', 'veth', 'peer', 'name', 'v2');
    const link = await getLinkByName(s.rtnl, 'v1');
    const failure: unknown = await setLink(s.rtnl, 'set the MTU of v1', link?.ifindex ?? 0, {
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
    using s = stage();
    await expect(setVf(s.rtnl, 'set VF 1', 1, { trust: { vf: 1, setting: 1 } })).rejects.toMatchObject({
      code: 'EOPNOTSUPP',
    });
  });

  test('reads a list of many parts, and one object after the other', async () => {
    using s = stage();
    const commands = Array.from({ length: 150 }, (_, i) => `link add d${i} type veth peer name p${i}`).join(
      '\n',
    );
    execFileSync('ip', ['-n', s.netns.name, '-batch', '-'], { input: commands });
    const names = (await listLinks(s.rtnl)).map((link) => link.ifname);
    expect(names.sort()).toEqual(
      ['lo', ...Array.from({ length: 150 }, (_, i) => [`d${i}`, `p${i}`]).flat()].sort(),
    );
    for (let i = 0; i < 300; i++) expect((await getLinkByName(s.rtnl, 'lo'))?.ifindex).toBe(1);
  });

  // A PF with 256 VFs answers with 60 KB; netdevsim's statistics-free entries are shorter, so alternative names make it longer.
  test('reads one object of more than 64 KB', async () => {
    using s = stage();
    const altnames = Array.from({ length: 496 }, (_, i) => `${i}-`.padEnd(127, 'x'));
    const commands = altnames.map((name) => `link property add dev lo altname ${name}`).join('\n');
    execFileSync('ip', ['-n', s.netns.name, '-batch', '-'], { input: commands });
    expect((await getLinkByName(s.rtnl, 'lo'))?.altnames.toSorted()).toEqual(altnames.toSorted());
  });

  test('many requests at once get their own answers', async () => {
    using s = stage();
    s.netns.ip('link', 'add', 'd1', 'type', 'veth', 'peer', 'name', 'p1');
    const names = Array.from({ length: 50 }, (_, i) => ['lo', 'd1', 'nope'][i % 3] as string);
    const links = await Promise.all(names.map((name) => getLinkByName(s.rtnl, name)));
    expect(links.map((link) => link?.ifname ?? 'nope')).toEqual(names);
  });

  test('a watch sees what others change, also while its look asks the kernel', async () => {
    using s = stage();
    const adding = start(
      '/bin/sh',
      ['-c', `sleep 0.2; ip -n ${s.netns.name} link add d1 type veth peer name p1`],
      { PATH: '/sbin:/bin' },
      '',
    );
    expect((await s.rtnl.watch(RTNLGRP_LINK, 10_000, () => getLinkByName(s.rtnl, 'd1')))?.ifname).toBe('d1');
    finish(adding);
    expect(await s.rtnl.watch(RTNLGRP_LINK, 50, () => undefined)).toBeUndefined();
  });

  test('a question is not answered by a notification of what somebody else did under the same number', async () => {
    using s = stage();
    s.netns.ip('link', 'add', 'd1', 'type', 'veth', 'peer', 'name', 'd2');
    using pod = s.netns.open();
    const { ifindex = 0 } = (await getLinkByName(pod.rtnl, 'd1')) ?? {};
    using other = pod.inside(() => new Rtnetlink(openSocket()));
    const request = linkMessage.write({ header: linkHeader(ifindex), attributes: {} });
    const look = async () => {
      const [RTM_DELLINK, NLM_F_ECHO] = [17, 8];
      // What Linux 6.2 and later say of it carries the number of this request, where it wants to hear of it.
      await other.request('delete d1', RTM_DELLINK, request, NLM_F_ECHO);
      return getLinkByName(s.rtnl, 'lo');
    };
    expect((await s.rtnl.watch(RTNLGRP_LINK, 10_000, look))?.ifname).toBe('lo');
  });

  test('a watch outlives notifications that did not fit into the buffer', async () => {
    using s = stage();
    let looks = 0;
    const look = () => {
      looks++;
      // Nobody reads while these are made: some get lost.
      const flap = Array.from({ length: 400 }, (_, i) => `link set lo ${i % 2 ? 'down' : 'up'}`).join('\n');
      if (looks === 1) execFileSync('ip', ['-n', s.netns.name, '-batch', '-'], { input: flap });
      return looks > 1 ? getLinkByName(s.rtnl, 'lo') : undefined;
    };
    expect((await s.rtnl.watch(RTNLGRP_LINK, 10_000, look))?.ifname).toBe('lo');
  });

  test("an unknown request is the kernel's refusal", async () => {
    using s = stage();
    await expect(s.rtnl.request('ask', 250, new Uint8Array(16))).rejects.toMatchObject({
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
      'in-'.repeat(50_000),
    );
    const ended = finish(child);
    expect(ended?.code).toBe(3);
    expect(ended?.stdout).toBe('in-'.repeat(50_000) + 'env-arg');
    expect(ended?.isCut).toBe(false);
  });

  test('that write without end are read up to a limit', () => {
    const ended = finish(
      start('/bin/sh', ['-c', 'head -c 10M /dev/zero | tr "\\0" x'], { PATH: '/usr/bin:/bin' }, ''),
    );
    expect(ended).toEqual({ code: 0, stdout: 'x'.repeat(maxOutputBytes), isCut: true });
  });

  test('cannot be given what would be another text to them', () => {
    expect(() => start('/bin/echo', ['a\0b'], {}, '')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => start('/bin/echo\0x', [], {}, '')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => readFile('/etc/hostname\0x')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('are waited for over signals', () => {
    // Node's own timer thread cannot interrupt us; another process's signal can.
    const child = start('/bin/sleep', ['0.5'], {}, '');
    process.on('SIGUSR2', () => undefined);
    const pest = start(
      '/bin/sh',
      ['-c', `for i in 1 2 3 4 5 6; do kill -USR2 ${process.pid}; sleep 0.02; done`],
      { PATH: '/bin' },
      '',
    );
    expect(finish(child, 30_000)?.code).toBe(0);
    finish(pest);
    process.removeAllListeners('SIGUSR2');
  });

  test('that do not exist are an error', () => {
    expect(() => start('/nonexistent', [], {}, '')).toThrow(expect.objectContaining({ errno: Errno.ENOENT }));
  });

  test('can be waited for in vain', () => {
    const child = start('/bin/sleep', ['1'], {}, '');
    expect(finish(child, 20)).toBeUndefined();
    expect(finish(child)?.code).toBe(0);
  });

  test('can start before there is input for them', () => {
    const child = startWaiting('/bin/sh', ['-c', 'echo ready; cat'], { PATH: '/bin' });
    expect(finish(child, 200)).toBeUndefined();
    const text = 'ä'.repeat(pipeBytes / 2);
    give(child, text);
    expect(finish(child)).toMatchObject({ code: 0, stdout: `ready\n${text}` });
  });

  test('that do not want their input are no error', () => {
    const child = startWaiting('/bin/sh', ['-c', 'exit 7'], {});
    while (readFile(`/proc/${child.pid}/stat`)?.includes(') Z ') !== true);
    give(child, 'text');
    expect(finish(child)?.code).toBe(7);
  });

  test('that wait in vain read an end of file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const script = `cat > ${folder}/input; touch ${folder}/ended`;
    abandon(startWaiting('/bin/sh', ['-c', script], { PATH: '/bin' }));
    expect(readFile(`${folder}/input`)).toBe('');
    expect(readFile(`${folder}/ended`)).toBe('');
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
    expect(performance.now() - begin).toBeGreaterThan(199);
    lock?.[Symbol.dispose]();
    using again = FileLock.take(path, 0);
    expect(again).toBeDefined();
    rmSync(folder, { recursive: true });
  });

  test('is taken when it is given back, however long before the time is over', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const path = join(folder, 'lock');
    // It tells that it has the lock, and gives it back only when it sees that we wait for it.
    const script = `
      exec 9>>${path}; flock 9; touch ${folder}/locked
      until grep -q -- "-> FLOCK.*WRITE ${process.pid} " /proc/locks; do sleep 0.01; done`;
    const holder = start('/bin/sh', ['-c', script], { PATH: '/usr/bin:/bin' }, '');
    while (!existsSync(`${folder}/locked`)) spawnSync('sleep', ['0.01']);
    using lock = FileLock.take(path, 3_600_000);
    expect(lock).toBeDefined();
    finish(holder);
    rmSync(folder, { recursive: true });
  });

  test('is waited for over signals', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const path = join(folder, 'lock');
    const script = `
      exec 9>>${path}; flock 9; touch ${folder}/locked
      until grep -q -- "-> FLOCK.*WRITE ${process.pid} " /proc/locks; do sleep 0.01; done
      for i in 1 2 3 4 5; do kill -USR2 ${process.pid}; sleep 0.02; done`;
    process.on('SIGUSR2', () => undefined);
    const holder = start('/bin/sh', ['-c', script], { PATH: '/usr/bin:/bin' }, '');
    while (!existsSync(`${folder}/locked`)) spawnSync('sleep', ['0.01']);
    using lock = FileLock.take(path, 3_600_000);
    expect(lock).toBeDefined();
    finish(holder);
    process.removeAllListeners('SIGUSR2');
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

describe('errors of files', () => {
  test.each([
    [() => readFile('/proc/self/mem'), 'Cannot read /proc/self/mem: EIO (input/output error)'],
    [
      () => system.open('/nonexistent/x', system.O_WRONLY),
      'Cannot open /nonexistent/x: ENOENT (no such file or folder)',
    ],
    [
      () => system.writeText(system.open('/dev/full', system.O_WRONLY), 'x'),
      'Cannot write /dev/full: ENOSPC (no space left)',
    ],
    [() => system.mkdir('/proc/x', 0o700), 'Cannot make /proc/x: ENOENT (no such file or folder)'],
    [() => system.unlink('/etc'), 'Cannot remove /etc: EISDIR (it is a folder)'],
    [
      () => readFile(`/${'x'.repeat(5000)}`),
      `Cannot read /${'x'.repeat(5000)}: ENAMETOOLONG (the path is too long)`,
    ],
  ])('name the file: case %#', (call, message) => {
    expect(call).toThrow(message);
  });
});
