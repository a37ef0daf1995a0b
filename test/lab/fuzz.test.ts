import { expect, test } from 'vitest';
import { supportedVersions } from '../../src/cni/versions.ts';
import { type FuzzedCall, fuzzedCall } from '../support/fuzz.ts';
import { difference, TestNode } from '../support/node.ts';
import { isSoak, seed, seeded } from '../support/random.ts';
import { judgedCall, misjudgement } from '../support/wrong-call.ts';

const count = isSoak ? 300 : 40;

/** What is wrong with an answer, whatever the call was, if anything is. */
function complaint({ env }: FuzzedCall, code: number, stdout: string, stderr: string): string | undefined {
  if (code !== 0 && code !== 1) return `exit code ${code}`;
  if (/\n\s+at .*:\d+:\d+/.test(stdout + stderr)) return 'a stack trace';
  if (stdout === '') {
    return code === 0 && env['CNI_COMMAND'] !== 'ADD' ? undefined : 'no answer';
  }
  let answer: { cniVersion?: unknown; code?: unknown; msg?: unknown };
  try {
    answer = JSON.parse(stdout) as typeof answer;
  } catch {
    return 'stdout is not one JSON document';
  }
  if (!supportedVersions.includes(answer.cniVersion as never)) return 'an answer without cniVersion';
  if (code === 0) return undefined;
  if (typeof answer.code !== 'number' || typeof answer.msg !== 'string')
    return 'an error without code or msg';
  return answer.code === 999 ? 'a bug of ours: code 999' : undefined;
}

test(`${count} generated calls of the executable: one answer each, the right code, and the node is as it was`, async () => {
  await using node = await TestNode.start({ pfs: 2, vfs: 2 });
  await node.pods('a');
  const pristine = await node.state();
  const random = seeded(seed);
  const complaints: string[] = [];
  let attached = 0;
  for (let i = 0; i < count; i++) {
    // Of every second one it is known what is wrong with it.
    const judged = i % 2 === 0 ? judgedCall(random, true) : undefined;
    const call = judged ?? fuzzedCall(random);
    const { code, stdout, stderr } = await node.machine.run('exec /opt/cni/bin/sriov', {
      env: call.env,
      stdin: call.stdin,
    });
    const wrong = complaint(call, code, stdout, stderr) ?? (judged && misjudgement(judged, codeOf(stdout)));
    if (wrong !== undefined)
      complaints.push(`call ${i}: ${wrong}: ${JSON.stringify(call)}\n${stdout}${stderr}`);
    if (call.env['CNI_COMMAND'] !== 'ADD' || code !== 0) continue;
    attached++;
    const { code: delCode, stdout: left } = await node.machine.run('exec /opt/cni/bin/sriov', {
      env: { ...call.env, CNI_COMMAND: 'DEL' },
      stdin: call.stdin,
    });
    if (delCode !== 0) complaints.push(`call ${i}: DEL failed: ${left}`);
  }
  expect(complaints).toEqual([]);
  expect(attached).toBeGreaterThan(0);
  await node.sh('rm -f /var/log/sriov.log');
  expect(difference(pristine, await node.state())).toBe('');
}, 3_600_000);

/** The code of an answer that is known to be one document; 0 for a result. */
function codeOf(stdout: string): number {
  return (JSON.parse(stdout) as { code?: number }).code ?? 0;
}
