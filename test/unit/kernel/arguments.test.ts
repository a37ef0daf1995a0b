import { parseArgs } from 'node:util';
import { expect, test } from 'vitest';
import { parseArguments } from '../../../src/kernel/arguments.ts';
import { seeded } from '../../support/random.ts';

const options = {
  json: { type: 'boolean' },
  device: { type: 'string' },
  verbose: { type: 'boolean', short: 'v' },
  name: { type: 'string', short: 'n' },
} as const;

test('a command line is taken apart as util.parseArgs() of Node does', () => {
  const random = seeded(3);
  const pieces = [
    'list',
    '--json',
    '--json=x',
    '--device',
    '--device=',
    '--device=a=b',
    '-v',
    '-vn',
    '-nv',
    '-vx',
    '-n',
    '-',
    '--',
    '--what',
    '--constructor',
    '',
    '-h',
    '--=',
  ];
  const wrong: string[] = [];
  for (let i = 0; i < 5000; i++) {
    const args = Array.from({ length: random.below(6) }, () => random.pick(pieces));
    const { tokens, positionals } = parseArgs({
      args,
      options,
      allowPositionals: true,
      strict: false,
      tokens: true,
    });
    const expected = {
      words: positionals,
      given: tokens.flatMap((token) =>
        token.kind === 'option' ? [{ name: token.name, rawName: token.rawName, value: token.value }] : [],
      ),
    };
    const found = parseArguments(args, options);
    if (JSON.stringify(found) !== JSON.stringify(expected))
      wrong.push(`${JSON.stringify(args)}: ${JSON.stringify(found)} for ${JSON.stringify(expected)}`);
  }
  expect(wrong.slice(0, 5)).toEqual([]);
});
