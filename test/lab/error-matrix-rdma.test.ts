import { describe } from 'vitest';
import { describeErrors, makeLane } from '../support/error-matrix.ts';
import { loadSoftRoce } from '../support/rdma.ts';

// A file of its own: `make soak` runs two files at a time.
describe('an error at a system call', () =>
  describeErrors('RDMA', (card) => makeLane(card, { rdma: true }), {
    pfs: 3,
    disks: ['rdma'],
    prepare: (node) => loadSoftRoce(node, 'exclusive'),
    focus: {
      calls: /rdma|RDMA|infiniband/,
      sampled: { ADD: 2, DEL: 2, CHECK: 1 },
    },
  }));
