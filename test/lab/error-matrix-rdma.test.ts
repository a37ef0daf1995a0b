import { describe } from 'vitest';
import { describeErrors, makeLane } from '../support/error-matrix.ts';
import { isSoak } from '../support/random.ts';
import { loadSoftRoce } from '../support/rdma.ts';

// `make test` leaves it out: a machine of its own for a few points.
describe.runIf(isSoak)('an error at a system call', () =>
  describeErrors('RDMA', (card) => makeLane(card, { rdma: true }), {
    disks: ['rdma'],
    // When a namespace dies, soft-RoCE makes its device anew, and its files get the first numbers that are free: any other card's.
    lanes: 1,
    prepare: (node) => loadSoftRoce(node, 'exclusive'),
  }),
);
