import { describe } from 'vitest';
import { common, describeCrashes } from '../support/crash.ts';

describe('killed at every system call that changes something', () => describeCrashes('netdev', common, 3));
