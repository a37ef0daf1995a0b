import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';

/** A node's folders, and programs that stand in for the executable and, first in PATH, for what tells of the host. */
class Node implements Disposable {
  readonly folder = mkdtempSync(`${tmpdir()}/sriov-install-`);
  readonly bin = `${this.folder}/opt/cni/bin`;

  program(path: string, script: string): string {
    const file = `${this.folder}/${path}`;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return file;
  }

  plugin(version: string): string {
    return this.program(`build/${version}`, `[ "$1" = --version ] && echo sriov ${version}`);
  }

  run(...args: string[]) {
    return this.runWith({}, '--dir', this.bin, ...args);
  }

  runWith(env: NodeJS.ProcessEnv, ...args: string[]) {
    const PATH = `${this.folder}/path:${process.env['PATH']}`;
    const options = { encoding: 'utf8', env: { PATH, ...env } } as const;
    const { status, stdout, stderr } = spawnSync('sh', ['deploy/install.sh', ...args], options);
    return { status, stdout, stderr };
  }

  installed(): Record<string, string> {
    const names = existsSync(this.bin) ? readdirSync(this.bin) : [];
    const said = (name: string) =>
      spawnSync(`${this.bin}/${name}`, ['--version'], { encoding: 'utf8' }).stdout.trim();
    return Object.fromEntries(names.map((name) => [name, said(name)]));
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true });
  }
}

test('install puts the executable there, and keeps what was there before', () => {
  using node = new Node();
  expect(node.run('install', node.plugin('1.0.0'))).toMatchObject({ status: 0, stderr: '' });
  expect(node.installed()).toEqual({ sriov: 'sriov 1.0.0' });
  expect(node.run('install', node.plugin('2.0.0')).status).toBe(0);
  expect(node.installed()).toEqual({ sriov: 'sriov 2.0.0', 'sriov.previous': 'sriov 1.0.0' });
});

test('the same executable again changes nothing, so that the one before stays in reach', () => {
  using node = new Node();
  for (const version of ['1.0.0', '2.0.0', '2.0.0']) node.run('install', node.plugin(version));
  expect(node.installed()).toEqual({ sriov: 'sriov 2.0.0', 'sriov.previous': 'sriov 1.0.0' });
});

test('install does not write into the file that a runtime may be running', () => {
  using node = new Node();
  const old = node.plugin('1.0.0');
  node.run('install', old);
  const running = openSync(`${node.bin}/sriov`, 'r');
  try {
    node.run('install', node.plugin('2.0.0'));
    expect(readFileSync(running)).toEqual(readFileSync(old));
  } finally {
    closeSync(running);
  }
});

test.each<[string, string, RegExp]>([
  ['says something else', 'echo Go plugin', /it says "Go plugin", not its version/],
  [
    'misses libstdc++',
    'echo "error while loading shared libraries: libstdc++.so.6: cannot open" >&2; exit 127',
    /libstdc\+\+ is missing or too old/,
  ],
  [
    'wants a newer glibc',
    `echo "libc.so.6: version 'GLIBC_2.28' not found" >&2; exit 1`,
    /glibc is older than 2\.28/,
  ],
])('an executable that %s is not installed', (_, script, reason) => {
  using node = new Node();
  node.run('install', node.plugin('1.0.0'));
  const { status, stderr } = node.run('install', node.program('broken', script));
  expect(status).toBe(1);
  expect(stderr).toMatch(reason);
  expect(stderr).toMatch(/nothing was changed/);
  expect(node.installed()).toEqual({ sriov: 'sriov 1.0.0' });
});

test.each<[string, string, string, RegExp | undefined]>([
  [
    '4.17.9-1-default',
    'uname',
    '4.17.9-1-default',
    /this host has Linux 4\.17\.9-1-default; sriov needs 4\.18/,
  ],
  ['3.99.0', 'uname', '3.99.0', /needs 4\.18/],
  ['4.18.0-553.el8.x86_64', 'uname', '4.18.0-553.el8.x86_64', undefined],
  ['6.1.0-13-amd64', 'uname', '6.1.0-13-amd64', undefined],
  ['glibc 2.17', 'getconf', 'glibc 2.17', /this host has glibc 2\.17; sriov needs 2\.28/],
  ['glibc 2.28', 'getconf', 'glibc 2.28', undefined],
])('a host with %s is judged', (_, program, answer, refusal) => {
  using node = new Node();
  node.program(`path/${program}`, `echo ${answer}`);
  const dynamic = node.program('dynamic', '# ld-linux-x86-64.so.2\necho sriov 1.0.0');
  const { status, stderr } = node.run('install', dynamic);
  expect(status).toBe(refusal ? 1 : 0);
  expect(stderr).toMatch(refusal ?? /^$/);
  expect(node.installed()).toEqual(refusal ? {} : { sriov: 'sriov 1.0.0' });
});

test('a static executable asks for no glibc', () => {
  using node = new Node();
  node.program('path/getconf', 'echo glibc 2.17');
  expect(node.run('install', node.plugin('1.0.0'))).toMatchObject({ status: 0, stderr: '' });
});

test('a host without getconf is judged by trying the executable', () => {
  using node = new Node();
  node.program('path/getconf', 'exit 127');
  expect(node.run('install', node.plugin('1.0.0')).status).toBe(0);
});

test('the executable is tried as the tool, even where CNI_COMMAND is in the environment', () => {
  using node = new Node();
  const plugin = node.program('plugin', '[ -z "${CNI_COMMAND+set}" ] && echo sriov 1.0.0');
  for (const CNI_COMMAND of ['', 'ADD'])
    expect(node.runWith({ CNI_COMMAND }, '--dir', node.bin, 'install', plugin)).toMatchObject({ status: 0 });
});

test('DESTDIR makes a tree for a package, of an executable that need not run here', () => {
  using node = new Node();
  const foreign = node.program('foreign', 'exit 126');
  expect(node.runWith({ DESTDIR: node.folder }, 'install', foreign)).toMatchObject({ status: 0, stderr: '' });
  expect(readFileSync(`${node.bin}/sriov`)).toEqual(readFileSync(foreign));
  expect(node.runWith({ DESTDIR: node.folder }, 'uninstall').status).toBe(0);
  expect(node.installed()).toEqual({});
});

test('uninstall and rollback leave the plugin where pods need it', () => {
  using node = new Node();
  const withRoot = (...args: string[]) => node.runWith({ DESTDIR: node.folder }, ...args);
  withRoot('install', node.program('go', 'echo another plugin'));
  withRoot('install', node.plugin('1.0.0'));
  mkdirSync(`${node.folder}/var/lib/cni/sriov/claims`, { recursive: true });
  writeFileSync(`${node.folder}/var/lib/cni/sriov/claims/0000:01:10.0.json`, '{}');
  for (const action of ['uninstall', 'rollback']) {
    const { status, stderr } = withRoot(action);
    expect(status).toBe(1);
    expect(stderr).toMatch(/0000:01:10\.0.*sriov release/);
  }
  expect(node.installed()).toEqual({ sriov: 'sriov 1.0.0', 'sriov.previous': 'another plugin' });

  rmSync(`${node.folder}/var/lib/cni/sriov/claims/0000:01:10.0.json`);
  expect(withRoot('rollback').status).toBe(0);
  expect(node.installed()).toEqual({ sriov: 'another plugin' });
  expect(withRoot('rollback')).toMatchObject({ status: 1 });
  expect(withRoot('uninstall').status).toBe(0);
  expect(node.installed()).toEqual({});
});

test('--units: the units of the Docker driver come and go with it, into a package without systemctl', () => {
  using node = new Node();
  node.program('path/systemctl', `echo "$*" >> ${node.folder}/systemctl.log`);
  const units = () => readdirSync(`${node.folder}/etc/systemd/system`).sort();
  const run = (...args: string[]) =>
    node.runWith(
      { DESTDIR: node.folder },
      '--dir',
      '/opt/cni/bin',
      '--units',
      '/etc/systemd/system',
      ...args,
    );
  expect(run('install', node.plugin('1.0.0'))).toMatchObject({ status: 0, stderr: '' });
  expect(units()).toEqual(['sriov-docker.service', 'sriov-docker.socket']);
  for (const unit of units())
    expect(readFileSync(`${node.folder}/etc/systemd/system/${unit}`)).toEqual(readFileSync(`deploy/${unit}`));
  expect(run('uninstall')).toMatchObject({ status: 0, stderr: '' });
  expect(units()).toEqual([]);
  expect(node.installed()).toEqual({});
  expect(existsSync(`${node.folder}/systemctl.log`)).toBe(false);
});

test.each([[[]], [['install']], [['remove']], [['install', 'x', '--fast']]])(
  '%j is refused as a command line',
  (args) => {
    using node = new Node();
    expect(node.run(...args)).toMatchObject({ status: 2, stdout: '' });
  },
);
