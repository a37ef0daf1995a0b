import { describe } from 'vitest';
import { describeErrors } from '../support/error-matrix.ts';

// A file of its own: `make soak` runs two files at a time.
describe('an error at a system call', () => describeErrors('DPDK', { dpdk: true }));
