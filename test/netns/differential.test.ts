import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { type OddCall, oddCall } from '../support/odd-call.ts';
import { isSoak, seed, seeded } from '../support/random.ts';

const count = isSoak ? 2000 : 100;

/** When, for how long and on which engine is not what is compared. */
function comparable(text: string): string {
  return text
    .replaceAll(/\((?:QuickJS-ng|Node\.js) [\d.]+\)/g, '(ENGINE)')
    .replaceAll(/("?\b(?:time|since)"?[=:] ?)"[^"]*"/g, '$1...')
    .replaceAll(/("?\b\w*[mM]s"?[=:] ?)(?:"[\d.]+"|[\d.]+)/g, '$1...');
}

/** Runs a call on a node of its own: no network, no state, one pod. What it leaves behind is told on descriptor 3. */
function run(executable: string, { env, stdin, args, redirections }: OddCall) {
  const script = `
    for place in lib/cni log; do mkdir -p /var/$place; mount -t tmpfs tmpfs /var/$place || exit 99; done
    mount -t tmpfs tmpfs /run && ip netns add a || exit 99
    "$@" ${redirections} 3>&-
    code=$?
    cd / && find var/lib/cni var/log run -type f ! -path 'run/netns/*' | sort | xargs -r tail -v -n +1 >&3
    exit $code`;
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const { status, output } = spawnSync(
    'unshare',
    ['--mount', '--net', 'sh', '-c', script, 'sh', 'env', '-i', ...variables, executable, ...args],
    { input: stdin, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe', 'pipe'] },
  );
  const [, stdout, log, files] = output.map((text) => text ?? '');
  return {
    code: status,
    stdout: comparable(stdout ?? ''),
    log: comparable(log ?? ''),
    files: comparable(files ?? ''),
  };
}

test(
  `${count} generated calls: both executables give the same answers, exit codes, log lines and files`,
  { timeout: 3_600_000 },
  () => {
    const random = seeded(seed);
    const codes = new Map<string, number>();
    const differences: string[] = [];
    for (let i = 0; i < count; i++) {
      const call = oddCall(random);
      const [one, other] = [run(resolve('dist/sriov-static'), call), run(resolve('dist/sriov'), call)];
      if (JSON.stringify(one) !== JSON.stringify(other))
        differences.push(
          JSON.stringify(
            { i, call: { ...call, stdin: call.stdin.slice(0, 2000) }, static: one, node: other },
            undefined,
            1,
          ),
        );
      expect(one.code, one.log).not.toBe(99);
      const [, kind = one.stdout === '' ? 'nothing' : 'an answer'] = /"code":(\d+)/.exec(one.stdout) ?? [];
      codes.set(kind, (codes.get(kind) ?? 0) + 1);
    }
    console.log('answers:', Object.fromEntries(codes));
    expect(differences.slice(0, 5).join('\n')).toBe('');
    // The generator is worth something only if it comes past each of the checks.
    for (const kind of ['4', '6', '7', '100', 'nothing', 'an answer'])
      expect(codes.get(kind), `code ${kind}`).toBeGreaterThan(0);
  },
);
