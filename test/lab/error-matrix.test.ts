import { describe } from 'vitest';
import { describeErrors } from '../support/error-matrix.ts';

describe('an error at a system call', () => describeErrors('netdev'));
