import { keys } from '../../src/attach/keys.ts';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { builtExecutable, engine } from '../../lab/engine.ts';

const config = { cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID: '0000:ff:1f.7' };
const pod = `executable-${process.pid}`;

function cniEnv(command: string, more: Record<string, string> = {}) {
  return {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c',
    CNI_NETNS: `/run/netns/${pod}`,
    CNI_IFNAME: 'net1',
    CNI_PATH: '/nonexistent',
    ...more,
  };
}

interface Answer {
  readonly cniVersion: string;
  readonly code?: number;
  readonly msg?: string;
}

/** Runs it with an empty /var/lib of its own, after a shell script that prepares the mounts. The answer must be one JSON document. */
function run(
  command: string,
  stdin: string,
  options: { env?: Record<string, string>; prepare?: string; exec?: string } = {},
) {
  const { prepare = '', exec = '"$1"' } = options;
  const script = `mount -t tmpfs tmpfs /var/lib\n${prepare}\nexec ${exec}`;
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', 'bash', '-c', script, 'bash', builtExecutable],
    {
      env: cniEnv(command, options.env),
      input: stdin,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    },
  );
  return { status, stderr, answer: stdout === '' ? undefined : (JSON.parse(stdout) as Answer) };
}

/** An ADD that needs both native parts and is refused for its device, which does not exist. */
const refused = expect.objectContaining({ code: 100 }) as unknown;

beforeAll(() => {
  spawnSync('ip', ['netns', 'add', pod]);
});
afterAll(() => {
  spawnSync('ip', ['netns', 'del', pod]);
});

describe("the host's state", () => {
  test.each([8, 40, 60, 100, 200])(
    '%d KB left in the state folder are never worse than none',
    (kilobytes) => {
      // The whole of the state folder's file system, as a disk that is nearly full.
      const prepare = `mkdir -p /var/lib/cni/sriov; mount -t tmpfs -o size=${kilobytes}k tmpfs /var/lib/cni/sriov`;
      expect(run('ADD', JSON.stringify(config), { prepare }).answer).toEqual(refused);
    },
  );

  test('one full folder and one that is not writable leave the others', () => {
    const prepare = `
      mkdir -p /var/lib/cni/sriov
      mount -t tmpfs -o size=4k tmpfs /var/lib/cni/sriov
      touch /var/lib/plugin; mount --bind "$1" /var/lib/plugin # this checkout may be below /tmp
      for folder in /run /tmp; do mount -t tmpfs -o ro tmpfs $folder; done`;
    const options = { prepare, exec: '/var/lib/plugin' };
    expect(run('STATUS', JSON.stringify({ ...config, cniVersion: '1.1.0' }), options).answer?.code).toBe(50);
  });

  test('a broken OpenSSL configuration of the host or in the environment is not read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    const broken = join(folder, 'openssl.cnf');
    writeFileSync(broken, 'nodejs_conf = init\n[init\nproviders = p\n');
    const prepare = `mount --bind ${broken} /etc/ssl/openssl.cnf`;
    expect(run('ADD', JSON.stringify(config), { prepare }).answer).toEqual(refused);
    const env = { OPENSSL_CONF: broken };
    expect(run('ADD', JSON.stringify(config), { env }).answer).toEqual(refused);
    expect(run('VERSION', '', { env }).answer?.code).toBeUndefined();
    rmSync(folder, { recursive: true });
  });

  test('a library that OPENSSL_CONF names as a provider is not loaded', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
    writeFileSync(
      join(folder, 'evil.c'),
      `#include <stdio.h>
      __attribute__((constructor)) static void loaded(void) { fclose(fopen("${folder}/loaded", "w")); }`,
    );
    spawnSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'evil.so'), join(folder, 'evil.c')]);
    writeFileSync(
      join(folder, 'openssl.cnf'),
      `nodejs_conf = init\n[init]\nproviders = list\n[list]\nevil = evil\n[evil]\nmodule = ${folder}/evil.so\nactivate = 1\n`,
    );
    run('VERSION', '', { env: { OPENSSL_CONF: join(folder, 'openssl.cnf') } });
    expect(spawnSync('ls', [folder], { encoding: 'utf8' }).stdout).toBe('evil.c\nevil.so\nopenssl.cnf\n');
    rmSync(folder, { recursive: true });
  });

  test('files have the modes of the documents whatever the umask', () => {
    const logFile = `/var/log/sriov-test-${pod}/deep/sriov.log`;
    const folder = logFile.slice(0, logFile.indexOf('/deep'));
    run('ADD', JSON.stringify({ ...config, logFile }), { prepare: 'umask 0077' });
    const modes = spawnSync('stat', ['-c', '%a', folder, `${folder}/deep`, logFile], {
      encoding: 'utf8',
    }).stdout;
    rmSync(folder, { recursive: true });
    expect(modes).toBe('755\n755\n644\n');
  });
});

describe('stdin', () => {
  test.each([
    ['a folder', '"$1" < /etc', 5, /Cannot read stdin: EISDIR/],
    ['closed', '"$1" <&-', 6, /stdin is empty/],
    ['write only', '"$1" 0> /dev/null', 5, /Cannot read stdin: EBADF/],
    ['a gigabyte', '"$1" < <(head -c 1G /dev/zero)', 6, /longer than 1048576 bytes/],
    ['one byte too long', '"$1" < <(head -c 1048577 /dev/zero)', 6, /longer than 1048576 bytes/],
    [
      '5,500 levels',
      `"$1" < <(printf '{"cniVersion":"1.0.0","name":"n","type":"sriov","x":'; for ((i=0; i<5500; i++)); do printf '['; done; for ((i=0; i<5500; i++)); do printf ']'; done; printf '}')`,
      6,
      /nested deeper than 100 levels/,
    ],
  ])('%s: one CNI error', (_, exec, code, msg) => {
    const { status, answer } = run('ADD', '', { exec });
    expect(answer).toMatchObject({ code, msg: expect.stringMatching(msg) as string });
    expect(status).toBe(1);
  });

  test('a configuration of just under the limit is read', () => {
    const padded = JSON.stringify({ ...config, prevResult: undefined, padding: '' });
    const stdin = padded.replace('"padding":""', `"padding":"${'x'.repeat(1048576 - padded.length)}"`);
    expect(stdin).toHaveLength(1048576);
    expect(run('ADD', stdin).answer).toEqual(refused);
  });

  test('a pipe that does not block and is filled late is waited for', async () => {
    const python = `
import os, subprocess, sys, time, fcntl
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_NONBLOCK)
child = subprocess.Popen([sys.argv[1]], stdin=r, close_fds=True)
os.close(r)
# Until it waits for us, which is what the test is about.
while True:
    with open(f"/proc/{child.pid}/syscall") as f: call = f.read().split()[0]
    if call in ("7", "0", "271"): break # poll, read, ppoll
    if child.poll() is not None: break
    time.sleep(0.01)
text = sys.argv[2].encode()
os.write(w, text[:20]); time.sleep(0.1); os.write(w, text[20:]); os.close(w)
sys.exit(child.wait())`;
    const { stdout } = await new Promise<{ stdout: string }>((done) => {
      const child = spawn('python3', ['-c', python, builtExecutable, JSON.stringify(config)], {
        env: cniEnv('ADD'),
      });
      let out = '';
      child.stdout.on('data', (data: Buffer) => (out += data.toString()));
      child.on('close', () => done({ stdout: out }));
    });
    expect(JSON.parse(stdout)).toEqual(refused);
  });
});

describe('stdout', () => {
  test('a pipe that does not block gets the whole answer, however slowly it is read', () => {
    const python = `
import os, subprocess, sys, time, fcntl
r, w = os.pipe()
fcntl.fcntl(w, fcntl.F_SETFL, fcntl.fcntl(w, fcntl.F_GETFL) | os.O_NONBLOCK)
fcntl.fcntl(w, 1031, 4096) # F_SETPIPE_SZ: an answer is never much longer
child = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=w, stderr=subprocess.DEVNULL, close_fds=True)
os.close(w)
child.stdin.write(sys.stdin.buffer.read()); child.stdin.close()
time.sleep(0.5) # the pipe fills
while True:
    piece = os.read(r, 50000)
    if not piece: break
    sys.stdout.buffer.write(piece)
sys.exit(child.wait())`;
    const wrong = Object.fromEntries(Object.keys(keys).map((key) => [key, { x: 'a'.repeat(1000) }]));
    const long = JSON.stringify({ ...config, ...wrong });
    const { status, stdout } = spawnSync('python3', ['-c', python, builtExecutable], {
      env: cniEnv('ADD'),
      input: long,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    expect(stdout.length).toBeGreaterThan(4_096);
    expect(JSON.parse(stdout)).toMatchObject({ code: 7 });
    expect(status).toBe(1);
  });

  test.each([
    ['full', '/dev/full', /cannot write the answer: Cannot write stdout: ENOSPC/],
    ['read only', '/dev/null', /^$/],
  ])('%s: said on stderr, exit code 1', (what, file, message) => {
    const redirect = what === 'full' ? `> ${file}` : `1< ${file}`;
    const { status, stderr } = run('VERSION', '{}', { exec: `"$1" ${redirect}` });
    if (what === 'full') expect(stderr).toMatch(message);
    else expect(stderr).toMatch(/cannot write the answer: Cannot write stdout: EBADF/);
    expect(status).toBe(1);
  });
});

test.runIf(engine === 'node')('an answer is given even if the native part cannot be loaded', () => {
  const prepare = `
    mkdir -p /mnt; mount --bind "$(dirname "$1")" /mnt; mount -o remount,bind,ro /mnt
    umount /var/lib; mount -t tmpfs -o ro tmpfs /var/lib
    for folder in /run /tmp /dev/shm; do mount -t tmpfs -o ro tmpfs $folder; done`;
  const { status, answer } = run('ADD', JSON.stringify(config), { prepare, exec: '/mnt/sriov' });
  expect(status).toBe(1);
  expect(answer).toMatchObject({
    code: 5,
    msg: expect.stringContaining('Cannot load the native part') as string,
  });
});
