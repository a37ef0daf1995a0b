import { describe } from 'vitest';
import { describeErrors, makeBondLane } from '../support/error-matrix.ts';

// A file of its own: `make soak` runs two files at a time.
describe('an error at a system call', () =>
  describeErrors('bond', makeBondLane, {
    pfs: 3,
    vfs: 2,
    // What only a bond does: messages to the pod about it, and its second claim.
    focus: {
      calls: /RTM_NEWLINK|RTM_DELLINK|IFLA_MASTER|IFLA_LINKINFO|10\.2\.json/,
      sampled: { ADD: 2, DEL: 2, CHECK: 1 },
    },
  }));
