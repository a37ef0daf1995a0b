import { expect, test } from 'vitest';
import { bondIfindex } from '../../../src/attach/bond.ts';

test.each([
  ['0000:01:10.0', '0000:02:10.0', 0x4000_0180],
  ['0000:02:10.0', '0000:01:10.0', 0x4000_0180], // from either claim
  ['0000:01:10.2', '0000:02:10.0', 0x4000_0182],
  ['0001:ff:1f.7', '0002:00:00.0', 0x4001_ffff],
  ['ffffffff:ff:1f.7', 'ffffffff:ff:1f.7', 0x7fff_ffff], // the largest that the kernel takes
])('the bond of %s and %s is found again by an index of its own', (pci, other, index) => {
  expect(bondIfindex(pci, other)).toBe(index);
});
