import { describe } from 'vitest';
import { bondDoor, describeCrashes } from '../support/crash.ts';

// A file of its own: `make soak` runs several files at a time.
describe('killed at every system call that changes something', () => describeCrashes('bond', bondDoor, 3));
