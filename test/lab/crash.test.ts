import { describe } from 'vitest';
import { labArch } from '../../lab/arch.ts';
import { cniDoor, common, describeCrashes } from '../support/crash.ts';

describe('killed at every system call that changes something', () =>
  describeCrashes('netdev', cniDoor(common), labArch === 'arm64' ? 2 : 6));
