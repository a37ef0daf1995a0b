import { describe } from 'vitest';
import { cniDoor, commonOfNic, describeCrashes } from '../support/crash.ts';
import { isSoak } from '../support/random.ts';

// `make test` leaves it out: a machine of its own for a few points.
describe.runIf(isSoak)('killed at every system call that changes something', () =>
  describeCrashes('NIC', cniDoor(commonOfNic), 0, { nics: ['virtio-net-pci'] }),
);
