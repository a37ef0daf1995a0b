import { describe } from 'vitest';
import { cniDoor, common, describeCrashes } from '../support/crash.ts';

describe('killed at every system call that changes something', () =>
  describeCrashes('netdev', cniDoor(common), 3));
