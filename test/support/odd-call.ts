import { type FuzzedCall, fuzzedCall } from './fuzz.ts';
import type { Random } from './random.ts';

/** A run of the executable, as a plugin or by hand, in whatever surroundings. */
export interface OddCall extends FuzzedCall {
  readonly args: readonly string[];
  /** A shell's redirections. */
  readonly redirections: string;
}

const words = [
  'list',
  'inspect',
  'check',
  'vfs',
  'gc',
  'release',
  'help',
  'nonsense',
  '0000:01:10.0',
  'a',
  '-',
  '--',
  '',
  'é',
];
const options = [
  ...['--json', '--dry-run', '--force', '--device', '--device=0000:01:10.0', '--device=x', '--device=', '-v', '-h', '--help'],
  ...['--version', '--versoin', '-x', '-vh', '--json=1', '--no-json', '--verbose', '--a=b=c', '--=x', '---'],
]; // prettier-ignore

/** stdin that is no configuration at all. */
const texts = [
  '', ' \n', '\ufeff{}', 'null', '[]', '"', '{"cniVersion":"1.0.0"', '{"a":1,}', '{"a":01}', '{"a":"\\x"}', '{"a":"\u0001"}', "{'a':1}",
  'apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n', '\ud800', '{"name":"net","a":1e999,"b":-0}',
  '['.repeat(100_000), `${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`, `{"name":"${'n'.repeat(100_000)}"}`,
]; // prettier-ignore

const surroundings: readonly Record<string, string>[] = [
  { TZ: 'Asia/Tokyo', LC_ALL: 'tr_TR.UTF-8' },
  { NODE_OPTIONS: '--require /nonexistent' },
  { HOME: '', PATH: '' },
  { __proto__x: '1', constructor: '2', toString: '3' },
  Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`MANY_${i}`, 'x'.repeat(100)])),
];

/** Nine in ten are calls of a runtime. */
export function oddCall(random: Random): OddCall {
  const call = fuzzedCall(random);
  const env = { ...call.env, ...(random.chance(0.1) && random.pick(surroundings)) };
  const stdin = random.chance(0.1) ? random.pick(texts) : call.stdin;
  const redirections = random.chance(0.04)
    ? random.pick(['<&-', '>&-', '2>&-', '>/dev/full', '<&- >&- 2>&-'])
    : '';
  if (random.chance(0.9)) return { env, stdin, args: [], redirections };
  const args = Array.from({ length: random.below(4) }, () =>
    random.pick(random.chance(0.6) ? words : options),
  );
  const byHand = Object.fromEntries(Object.entries(env).filter(([name]) => name !== 'CNI_COMMAND'));
  return { env: byHand, stdin, args, redirections };
}
