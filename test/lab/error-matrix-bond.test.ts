import { describe } from 'vitest';
import { describeErrors, makeBondLane } from '../support/error-matrix.ts';
import { isSoak } from '../support/random.ts';

// `make test` leaves it out: a machine of its own for a few points.
describe.runIf(isSoak)('an error at a system call', () =>
  describeErrors('bond', makeBondLane, {
    vfs: 2,
  }),
);
