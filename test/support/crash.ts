import type { Attachment, TestNode } from './node.ts';

/**
 * System calls by which the plugin changes something: messages to the kernel, files of ours, of procfs and sysfs, programs, namespaces,
 * locks. Between two of them a kill makes no difference.
 */
const changingCalls = [
  'sendmsg',
  'write',
  'rename',
  'fsync',
  'mkdir',
  'unlink',
  'utimensat',
  'vfork',
  'clone',
  'setns',
  'flock',
  'wait4',
] as const;

/** The N-th system call of a kind in one run of the plugin. */
export interface KillPoint {
  readonly call: string;
  readonly n: number;
}

/** Which changing calls a command makes, in a run that is not killed. Only the plugin's own main thread counts: strace without -f. */
export async function killPoints(
  node: TestNode,
  command: string,
  pod: string,
  config: object,
  attachment?: Attachment,
): Promise<KillPoint[]> {
  const traced = `strace -o /run/trace -e trace=${changingCalls.join(',')}`;
  const { code, stderr } = await node.cni(command, pod, config, attachment, traced);
  if (code !== 0) throw new Error(`${command} failed: ${stderr}`);
  const counts = await node.sh(`sed -n 's/^\\([a-z0-9]*\\)(.*/\\1/p' /run/trace | sort | uniq -c`);
  return counts.split('\n').flatMap((line) => {
    const [count, call = ''] = line.trim().split(' ');
    return Array.from({ length: Number(count) }, (_, i) => ({ call, n: i + 1 }));
  });
}

/** Runs a command that is killed just before its N-th call of a kind. Returns false if it ended before. */
export async function runKilled(
  node: TestNode,
  { call, n }: KillPoint,
  command: string,
  pod: string,
  config: object,
  attachment?: Attachment,
): Promise<boolean> {
  const traced = `strace -o /dev/null -e trace=${call} -e inject=${call}:signal=KILL:when=${n}`;
  const { code } = await node.cni(command, pod, config, attachment, traced);
  return code === 128 + 9;
}
