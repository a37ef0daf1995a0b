import { defineConfig } from 'vitest/config';
import LongestFirst from './test/support/longest-first.ts';

// A machine of the lab keeps little more than one core busy, and waits at times: three at a time fill a small machine.
const machines = 3;

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    reporters: ['default', './test/support/count-reporter.ts'],
    projects: [
      {
        // No test judges by the time it took: others may use this machine, too.
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 120_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        // Real network namespaces: needs root.
        test: {
          name: 'netns',
          include: ['test/netns/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 30_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // An executable with real VFs in a QEMU machine: the static one, unless ENGINE says otherwise.
        test: {
          name: 'lab',
          include: ['test/lab/**/*.test.ts'],
          maxWorkers: machines,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        // The executable on Node: it is the reference.
        test: {
          name: 'node',
          env: { ENGINE: 'node' },
          include: ['test/netns/executable.test.ts', 'test/lab/{attach,protocol,executable,crash}.test.ts'],
          maxWorkers: machines,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        // The static executable for arm64, in such a machine.
        test: {
          name: 'arm64',
          env: { ARCH: 'arm64' },
          include: ['test/lab/{lab,attach,protocol,crash}.test.ts'],
          maxWorkers: machines,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
