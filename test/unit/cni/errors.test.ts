import { describe, expect, test } from 'vitest';
import { IpamRefused } from '../../../src/attach/failure.ts';
import { toCniError } from '../../../src/cni/error-codes.ts';
import { CniError, formatError } from '../../../src/cni/errors.ts';

const answer = (error: unknown) => JSON.parse(formatError(error, '1.0.0')) as Record<string, unknown>;

describe('details', () => {
  test('are what the message lacks: libcni prints one behind the other', () => {
    const both = new CniError(103, 'VF is other: MTU is 9000; link is down', 'MTU is 9000\nlink is down');
    expect(answer(both)).not.toHaveProperty('details');
    const more = new CniError(103, 'VF is other: MTU is 9000', 'MTU is 9000\nlink is down');
    expect(answer(more)['details']).toBe('link is down');
  });

  test('and message of 10 MB become 4 KB each', () => {
    const huge = answer(new CniError(5, 'a'.repeat(10_000_000), 'b'.repeat(10_000_000)));
    expect(huge['msg']).toMatch(/^a{4095}…$/);
    expect(huge['details']).toMatch(/^b{4095}…$/);
  });
});

describe("an IPAM plugin's code", () => {
  const codeOf = (code: number) =>
    toCniError(new IpamRefused(code, 'IPAM plugin "x" failed at ADD: no')).code;

  test.each([1, 2, 4, 5, 6, 7, 8, 11, 50, 51])(
    '%i is of the specification or of libcni, and passed on',
    (code) => {
      expect(codeOf(code)).toBe(code);
    },
  );
  // 3 would tell the runtime that no DEL is needed; 100 and up are each plugin's own, 999 is libcni's for "any other".
  test.each([3, 9, 10, 12, 49, 99, 100, 101, 102, 103, 999, 1000, 0, -1, 2 ** 31])('%i becomes 5', (code) => {
    expect(codeOf(code)).toBe(5);
    expect(toCniError(new IpamRefused(code, 'x failed')).message).toBe(`x failed (its code ${code})`);
  });
});
