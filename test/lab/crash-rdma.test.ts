import { describe } from 'vitest';
import { cniDoor, common, describeCrashes } from '../support/crash.ts';
import { loadSoftRoce } from '../support/rdma.ts';

// A file of its own: `make soak` runs two files at a time.
describe('killed at every system call that changes something', () =>
  describeCrashes(
    'RDMA',
    { ...cniDoor({ ...common, rdma: true }), prepare: (node) => loadSoftRoce(node, 'exclusive') },
    1,
    { disks: ['rdma'] },
  ));
