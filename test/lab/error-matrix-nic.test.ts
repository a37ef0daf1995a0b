import { describe } from 'vitest';
import { describeErrors, makeNicLane } from '../support/error-matrix.ts';
import { isSoak } from '../support/random.ts';

// Most of what it tries, the matrix of VFs tries as well: `make test` leaves it out.
describe.runIf(isSoak)('an error at a system call', () =>
  describeErrors('NIC', makeNicLane, { pfs: 0, nics: ['e1000e', 'e1000e', 'e1000e'] }),
);
