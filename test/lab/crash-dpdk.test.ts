import { describe } from 'vitest';
import { cniDoor, common, describeCrashes } from '../support/crash.ts';

// A file of its own: `make soak` runs several files at a time.
describe('killed at every system call that changes something', () =>
  describeCrashes('DPDK', cniDoor({ ...common, dpdk: true }), 4));
