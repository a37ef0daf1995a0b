import type { TestNode } from './node.ts';

/** One system call as strace -y printed it. */
export interface TracedCall {
  readonly name: string;
  /** What it was called on: a path, "stdin", "stdout", "stderr", "socket", "memfd" or "". */
  readonly target: string;
  /** The N-th call of this name by the main thread. */
  readonly n: number;
  readonly line: string;
}

/** The calls of the traced program's main thread, and whether an error was put at a call of anybody else. */
export interface Trace {
  readonly calls: readonly TracedCall[];
  /** The call that got the error. */
  readonly hit: TracedCall | undefined;
  readonly othersWereHit: boolean;
}

/** Parses what `strace -y` wrote, with or without -f. */
export function parseTrace(text: string): Trace {
  const counts = new Map<string, number>();
  const calls: TracedCall[] = [];
  const unfinished = new Map<string, string>();
  let main: string | undefined;
  let hit: TracedCall | undefined;
  let othersWereHit = false;
  for (const raw of text.split('\n')) {
    const [, pid = '', said = ''] = /^(?:(\d+) +)?(.*)$/.exec(raw) ?? [];
    main ??= pid;
    if (said.endsWith('<unfinished ...>')) {
      unfinished.set(pid, said.slice(0, -'<unfinished ...>'.length));
      continue;
    }
    const [, rest] = /^<\.\.\. \w+ resumed>(.*)$/.exec(said) ?? [];
    const line = rest === undefined ? said : `${unfinished.get(pid) ?? ''}${rest}`;
    const [, name, args] = /^([a-z][a-z0-9_]*)\((.*)$/.exec(line) ?? [];
    if (name === undefined || args === undefined) continue;
    const isInjected = line.endsWith('(INJECTED)');
    if (pid !== main) {
      othersWereHit ||= isInjected;
      continue;
    }
    const n = (counts.get(name) ?? 0) + 1;
    counts.set(name, n);
    const target = name === 'memfd_create' ? 'memfd' : targetOf(args);
    const call = { name, target, n, line };
    if (isInjected) hit = call;
    calls.push(call);
  }
  return { calls, hit, othersWereHit };
}

/** What a call is made on, without what differs from run to run. */
function targetOf(args: string): string {
  const [, fd, path] = /^(\d+)<((?:[^<>]|->)*)>/.exec(args) ?? [];
  const named = /^(?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]+)"/.exec(args)?.[1];
  if (named === undefined && fd !== undefined && Number(fd) <= 2)
    return ['stdin', 'stdout', 'stderr'][Number(fd)] ?? '';
  return (named ?? path ?? '')
    .replace(/^(socket|anon_inode|pipe|net):.*/, '$1')
    .replace(/^\/memfd:.*/, 'memfd')
    .replace(/#\d+/g, '#N')
    .replace(/\/proc\/\d+/g, '/proc/PID')
    .replace(/(\/fd\/)\d+/g, '$1N');
}

const traceFile = (name: string) => `/run/trace.${name}`;

/** The command line before a program whose main thread's calls are to be written down, all of them. `name` tells traces apart. */
export function tracing(name: string): string {
  return `strace -y -s 96 -o ${traceFile(name)}`;
}

/**
 * The command line before a program that gets an error (strace's `inject=`) at one call.
 * @param isQuick the kernel stops the program at this call only, which takes a third of the time; but its children are counted and get
 * the error, too, if they come to their N-th call
 */
export function injecting(name: string, call: string, injection: string, isQuick: boolean): string {
  const follow = isQuick ? '-f --seccomp-bpf' : '';
  return `strace ${follow} -y -s 96 -o ${traceFile(name)} -e trace=${call} -e inject=${call}:${injection}`;
}

export async function readTrace(node: TestNode, name: string): Promise<Trace> {
  return parseTrace(await node.sh(`cat ${traceFile(name)}`));
}
