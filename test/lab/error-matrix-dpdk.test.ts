import { describe } from 'vitest';
import { describeErrors, makeLane } from '../support/error-matrix.ts';

// A file of its own: `make soak` runs several files at a time.
describe('an error at a system call', () =>
  describeErrors('DPDK', (card) => makeLane(card, { dpdk: true }), {
    // What it does beside the driver, the matrix of netdevs tries as well.
    sampled: { ADD: 4, DEL: 4, GC: 2 },
  }));
