import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** What README.md, docs/packaging.md and deploy/install.sh promise. */
const glibc = [2, 28] as const;

/** Versions of a library's symbols that a file asks for: [2, 34] for GLIBC_2.34. */
function neededVersions(file: string, library: string): (readonly [number, number])[] {
  const symbols = execFileSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 1 << 26 });
  return [...symbols.matchAll(new RegExp(`\\b${library}_(\\d+)\\.(\\d+)`, 'g'))].map(
    ([, major, minor]) => [Number(major), Number(minor)] as const,
  );
}

test.each([
  ['our addon', 'dist/native/system.node'],
  ["the netlink package's addon", `node_modules/netlink/prebuilds/linux-${process.arch}/node.napi.node`],
  ['Node', `node_modules/node-linux-${process.arch}/bin/node`],
])('%s runs with glibc 2.28, wherever it was built', (_, file) => {
  const needed = neededVersions(file, 'GLIBC');
  expect(needed.length).toBeGreaterThan(0);
  expect(needed.filter(([major, minor]) => major > glibc[0] || minor > glibc[1])).toEqual([]);
});
