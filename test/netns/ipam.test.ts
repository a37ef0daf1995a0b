import { linkSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { add } from '../../src/cni/add.ts';
import { runCommand } from '../../src/cni/command.ts';
import { del } from '../../src/cni/del.ts';
import { gc } from '../../src/cni/gc.ts';
import { toCniError } from '../../src/cni/error-codes.ts';
import { type Command, parseRequest } from '../../src/cni/request.ts';
import { status } from '../../src/cni/status.ts';
import { TestHost } from '../support/test-host.ts';
import { pfTree, temporaryTree } from '../support/sysfs-tree.ts';

/** A host with a card, and a folder of IPAM plugins that are shell scripts. */
function stage(scripts: Readonly<Record<string, string>> = {}) {
  const all = new TestHost([pfTree({ pci: '0000:03:00.0', numVfs: 2 })], {
    claims: {},
    pci: { vf_lock: {} },
  });
  const bin = temporaryTree();
  const log = `${bin.root}/log`;
  for (const [name, script] of Object.entries(scripts))
    writeFileSync(`${bin.root}/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return {
    host: all.host,
    bin: bin.root,
    log,
    request(command: Command, ipam: object, more: object = {}) {
      const env = {
        CNI_CONTAINERID: 'c',
        CNI_NETNS: '/run/netns/none',
        CNI_IFNAME: 'net1',
        CNI_PATH: bin.root,
        PATH: process.env['PATH'],
      };
      const config = { cniVersion: '1.1.0', name: 'net', type: 'sriov', pf: 'ens1', ipam, ...more };
      return parseRequest(command, env, JSON.stringify(config));
    },
    [Symbol.dispose]() {
      for (const one of [all, bin]) one[Symbol.dispose]();
    },
  };
}

async function errorOf(run: () => unknown): Promise<{ code: number; message: string } | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    return toCniError(error);
  }
}

const answer = (code: number, msg: string) => `echo '{"code":${code},"msg":"${msg}"}'; exit 1`;

/** What plugins answer that are older than a command: as generations of libcni do (Debian 10 to 13). */
const generations = {
  'libcni 0.6 and 0.7': answer(100, 'unknown CNI_COMMAND: $CNI_COMMAND'),
  'libcni 0.8 and 1.0, by the container id': answer(3, 'missing containerID'),
  'libcni 0.8 and 1.0': answer(4, 'unknown CNI_COMMAND: $CNI_COMMAND'),
  'libcni 1.2, of a version it does not have': answer(1, 'incompatible CNI versions'),
};

describe.each(Object.entries(generations))('an IPAM plugin of %s', (_, script) => {
  test('makes STATUS say 50 with the reason', async () => {
    using s = stage({ old: script });
    const error = await errorOf(() => status(s.host, s.request('STATUS', { type: 'old' })));
    expect(error?.code).toBe(50);
    expect(error?.message).toMatch(/^IPAM plugin "old" failed at STATUS: /);
  });

  test('is passed over by GC, which has nothing else to say', async () => {
    using s = stage({ old: script });
    expect(await errorOf(() => gc(s.host, s.request('GC', { type: 'old' })))).toBeUndefined();
  });
});

describe('an IPAM plugin that knows the command', () => {
  test('and cannot serve: STATUS passes on 51, and says 50 for anything else', async () => {
    using s = stage({ a: answer(51, 'no store'), b: answer(999, 'no store'), c: 'exit 1', d: 'exit 0' });
    const codeOf = async (type: string) =>
      (await errorOf(() => status(s.host, s.request('STATUS', { type }))))?.code;
    expect(await Promise.all(['a', 'b', 'c', 'd'].map(codeOf))).toEqual([51, 50, 50, undefined]);
  });

  test('and fails at GC: that is left behind', async () => {
    using s = stage({ a: answer(5, 'disk full') });
    const error = await errorOf(() => gc(s.host, s.request('GC', { type: 'a' })));
    expect(error).toMatchObject({ code: 102, message: expect.stringContaining('disk full') as string });
  });
});

test('an IPAM plugin that is not there: STATUS says 50, for no ADD could work', async () => {
  using s = stage();
  const error = await errorOf(() => status(s.host, s.request('STATUS', { type: 'missing' })));
  expect(error?.code).toBe(50);
  expect(error?.message).toMatch(/^Cannot find IPAM plugin "missing" in CNI_PATH/);
});

describe('an IPAM plugin that is ourselves', () => {
  const refusal = { code: 7, message: expect.stringContaining('this plugin itself') as string };
  const self = process.execPath; // what /proc/self/exe is while this is tested

  test.each<[string, (bin: string) => string]>([
    ['by name', () => 'sriov'],
    ['by a link', (bin) => (symlinkSync(self, `${bin}/other`), 'other')],
    ['by a link to a link', (bin) => (symlinkSync(self, `${bin}/a`), symlinkSync('a', `${bin}/b`), 'b')],
    ['by a hard link', (bin) => (linkOrCopy(bin), 'hard')],
  ])('%s: is refused by ADD and STATUS, and passed over by DEL and GC', async (_, make) => {
    using s = stage();
    const ipam = { type: make(s.bin) };
    expect(await errorOf(() => add(s.host, s.request('ADD', ipam)))).toMatchObject(refusal);
    expect(await errorOf(() => status(s.host, s.request('STATUS', ipam)))).toMatchObject(refusal);
    expect(await errorOf(() => del(s.host, s.request('DEL', ipam)))).toBeUndefined();
    expect(await errorOf(() => gc(s.host, s.request('GC', ipam)))).toBeUndefined();
  });

  function linkOrCopy(bin: string): void {
    try {
      linkSync(self, `${bin}/hard`);
    } catch {
      symlinkSync(self, `${bin}/hard`); // another file system
    }
  }

  test('behind another plugin: what is called within its call knows it, and refuses', async () => {
    using s = stage({ wrapper: 'env > "$(dirname "$0")/log"; exit 1' });
    await errorOf(() => status(s.host, s.request('STATUS', { type: 'wrapper' })));
    const env = Object.fromEntries(
      readFileSync(s.log, 'utf8')
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
    const stdin = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'sriov' });
    for (const command of ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC']) {
      const variables = {
        ...env,
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c',
        CNI_NETNS: 'x',
        CNI_IFNAME: 'net1',
      };
      const error = await errorOf(() => runCommand(variables, stdin));
      expect(error, command).toMatchObject({
        code: 7,
        message: expect.stringContaining('called this plugin again') as string,
      });
    }
  });
});
