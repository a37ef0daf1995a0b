import { describe } from 'vitest';
import { cniDoor, commonOfNic, describeCrashes } from '../support/crash.ts';

describe('killed at every system call that changes something', () =>
  describeCrashes('NIC', cniDoor(commonOfNic), 1, { nics: ['virtio-net-pci'] }));
