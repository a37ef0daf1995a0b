import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const executable = resolve('dist/sriov');
let folder = '';
let socketPath = '';
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sriov-test-'));
  socketPath = join(folder, 'plugins/sriov.sock');
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** Runs the daemon in a mount namespace of its own, so that the machine's state folder is not touched. */
function start(...args: string[]): { child: ChildProcess; log: () => string; ended: Promise<number | null> } {
  const script = `mkdir -p ${folder}/state /var/lib/cni && mount --bind ${folder}/state /var/lib/cni && exec "$@"`;
  const child = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', executable, 'docker', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  children.push(child);
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, log: () => text, ended: new Promise((end) => child.on('exit', (code) => end(code))) };
}

function activate(path = socketPath): Promise<string> {
  return new Promise((answer, reject) => {
    const asked = request(
      { socketPath: path, path: '/Plugin.Activate', method: 'POST', agent: false },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => answer(text));
      },
    );
    asked.on('error', reject);
    asked.end();
  });
}

async function untilServed(path = socketPath): Promise<string> {
  for (let tries = 0; ; tries++) {
    try {
      return await activate(path);
    } catch (error) {
      if (tries === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const answer = '{"Implements":["NetworkDriver"]}';

describe('sriov docker', () => {
  test('serves a socket for root only, ends upon SIGTERM, and leaves none', async () => {
    const { child, ended, log } = start('--socket', socketPath);
    expect(await untilServed()).toBe(answer);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(socketPath)).toBe(false);
    expect(log()).toMatch(/listens.*\n.*ends/);
  });

  test('replaces the socket of one that was killed', async () => {
    const first = start('--socket', socketPath);
    await untilServed();
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(socketPath)).toBe(true);
    start('--socket', socketPath);
    expect(await untilServed()).toBe(answer);
  });

  test('a second one says that there is a first', async () => {
    start('--socket', socketPath);
    await untilServed();
    const second = start('--socket', `${socketPath}2`);
    expect(await second.ended).toBe(1);
    expect(second.log()).toMatch(/it runs already: .*docker\.lock/);
    expect(await activate()).toBe(answer);
  });

  test('leaves a socket alone that another program serves, and a file that is none', async () => {
    const other = join(folder, 'other.sock');
    const server = createServer();
    await new Promise<void>((listening) => server.listen(other, listening));
    const beside = start('--socket', other);
    expect(await beside.ended).toBe(1);
    expect(beside.log()).toMatch(/another driver serves/);
    expect(existsSync(other)).toBe(true);
    server.close();
    const file = join(folder, 'file');
    writeFileSync(file, 'precious');
    const over = start('--socket', file);
    expect(await over.ended).toBe(1);
    expect(over.log()).toMatch(/Cannot use .* as a socket: it is something else/);
    expect(existsSync(file)).toBe(true);
  });

  test('takes the socket that systemd opened, and leaves it there', async () => {
    // What systemd does (sd_listen_fds(3)), in ten lines of perl.
    const passing = `use IO::Socket::UNIX; $^F = 10; my $path = shift;
      my $s = IO::Socket::UNIX->new(Local => $path, Listen => 8) or die $!;
      POSIX::dup2(fileno $s, 3) if fileno $s != 3; $ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = 1; exec @ARGV`;
    const path = join(folder, 'systemd.sock');
    const script = `mkdir -p ${folder}/state && mount --bind ${folder}/state /var/lib/cni && exec "$@"`;
    const child = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', 'perl', '-MPOSIX', '-e', passing, path, executable, 'docker']); // prettier-ignore
    children.push(child);
    expect(await untilServed(path)).toBe(answer);
    const ended = new Promise((end) => child.on('exit', end));
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(path)).toBe(true);
  });

  test.each(['3</etc/hostname', '3<&-'])(
    'says so where systemd is said to have opened a socket, but %s',
    (fd) => {
      const script = `mkdir -p ${folder}/state && mount --bind ${folder}/state /var/lib/cni
      LISTEN_FDS=1 LISTEN_PID=$$ exec ${executable} docker ${fd}`;
      const { status, stderr } = spawnSync('unshare', ['-m', 'bash', '-c', script], { encoding: 'utf8' });
      expect(status).toBe(1);
      expect(stderr).toMatch(/descriptor 3/);
    },
  );

  test.each<[string[], RegExp]>([
    [['--sokcet', '/x'], /it takes no "--sokcet"/],
    [['now'], /it takes no "now"/],
    [['--socket'], /--socket takes an absolute path/],
    [['--socket', 'x'], /--socket takes an absolute path/],
    [['--socket', '/tmp/'], /--socket takes an absolute path/],
    [['--socket', `/tmp/${'x'.repeat(103)}`], /--socket takes a path of at most 107 bytes/],
  ])('%j is a wrong command line', (args, message) => {
    const { status, stderr } = spawnSync(executable, ['docker', ...args], { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
  });

  test('has its manual', () => {
    const { status, stdout } = spawnSync(executable, ['docker', '--help'], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toMatch(/--socket PATH/);
  });

  test('is in the other executable, says the static one', () => {
    const { status, stderr } = spawnSync(resolve('dist/sriov-static'), ['docker'], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/the other executable.*dist\/sriov/);
  });
});
