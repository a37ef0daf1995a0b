import { describe, expect, test } from 'vitest';
import { InputRefused, parseJson, parseObject } from '../../../src/kernel/json.ts';
import { seeded } from '../../support/random.ts';

const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

describe('parseJson()', () => {
  test.each([
    '{"a":[1,-2.5e3,"x\\"y\\\\",true,null]}',
    ' 1 ',
    '""',
    '{}',
    '"[[[["',
    '"\\\\"',
    nested(100),
    `[${'{},'.repeat(200)}"{"]`,
  ])('%s is read as JSON.parse() does', (text) => expect(parseJson(text)).toEqual(JSON.parse(text)));

  test.each([nested(101), nested(100_000), '['.repeat(100_000), '{"a":'.repeat(101) + '1' + '}'.repeat(101)])(
    'too deep a text is refused, not tried: case %#',
    (text) => expect(() => parseJson(text)).toThrow(/^it is nested deeper than 100 levels$/),
  );

  test.each([
    ['', 'line 1, column 1: expected a value, found the end'],
    ['nonsense', 'line 1, column 1: expected a value, found "nonsense"'],
    ['{"a": 1,\n "b" 2}', 'line 2, column 6: expected ":", found "2"'],
    ['{"a": 1,}', 'line 1, column 9: expected a key, found "}"'],
    ['{a: 1}', 'line 1, column 2: expected a key or "}", found "a"'],
    ['[1 2]', 'line 1, column 4: expected "," or "]", found "2"'],
    ['[1,', 'line 1, column 4: expected a value, found the end'],
    ['{"a": 1', 'line 1, column 8: expected "," or "}", found the end'],
    ['{} {}', 'line 1, column 4: expected the end, found "{"'],
    ['{"a": "b', 'line 1, column 7: the string does not end'],
    ['{"a": "\\x"}', 'line 1, column 8: "\\\\" is not allowed in a string'],
    ['"a\nb"', 'line 1, column 3: "\\n" is not allowed in a string'],
    ['01', 'line 1, column 1: expected a value, found "01"'],
    ['nul', 'line 1, column 1: expected a value, found "nul"'],
    ['\u001b[2J', 'line 1, column 1: expected a value, found "\\u001b"'],
    ["{'a': 1}", 'line 1, column 2: expected a key or "}", found "\'"'],
    ['{"a": True}', 'line 1, column 7: expected a value, found "True"'],
  ])('%j: %s', (text, message) => {
    expect(() => parseJson(text)).toThrow(new InputRefused(message));
  });

  test('says where for every text that JSON.parse() refuses, and accepts every other', () => {
    const random = seeded(1);
    const wrong: string[] = [];
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"',
      '\\',
      '1',
      '-',
      '1.5',
      'true',
      'null',
      ' ',
      '\n',
      'x',
      '\u0000',
    ];
    for (let i = 0; i < 20_000; i++) {
      const text = Array.from({ length: 1 + random.below(8) }, () => random.pick(pieces)).join('');
      const outcome = (parse: (text: string) => unknown) => {
        try {
          return JSON.stringify(parse(text));
        } catch (error) {
          return error as Error;
        }
      };
      const expected = outcome(JSON.parse);
      const found = outcome(parseJson);
      const isRight =
        expected instanceof Error
          ? found instanceof InputRefused &&
            /^line \d+, column \d+: (?!expected the end, found the end)/.test(found.message)
          : found === expected;
      if (!isRight) wrong.push(`${JSON.stringify(text)}: ${String(found)}`);
    }
    expect(wrong).toEqual([]);
  });
});

describe('parseObject()', () => {
  test.each(['{}', '{"a":[1]}'])('%s is one', (text) => expect(parseObject(text)).toEqual(JSON.parse(text)));
  test.each(['[]', '[{}]', 'null', '1', '"{}"', '', '{'])('%s is none', (text) =>
    expect(parseObject(text)).toBeUndefined(),
  );
});
