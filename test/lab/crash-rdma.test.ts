import { describe } from 'vitest';
import { cniDoor, common, describeCrashes } from '../support/crash.ts';
import { isSoak } from '../support/random.ts';
import { loadSoftRoce } from '../support/rdma.ts';

// `make test` leaves it out: a machine of its own for a few points.
describe.runIf(isSoak)('killed at every system call that changes something', () =>
  describeCrashes(
    'RDMA',
    { ...cniDoor({ ...common, rdma: true }), prepare: (node) => loadSoftRoce(node, 'exclusive') },
    0,
    { disks: ['rdma'] },
  ),
);
