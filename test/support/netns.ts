import { execFileSync } from 'node:child_process';
import { Netns } from '../../src/kernel/netns.ts';

let count = 0;

/** Runs a program and returns its stdout; stderr goes into the error. */
export function run(file: string, ...args: string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A network namespace of the test's own, gone with its scope. */
export class TestNetns {
  readonly name: string;
  readonly path: string;

  constructor() {
    this.name = `sriov-test-${process.pid}-${count++}`;
    this.path = `/run/netns/${this.name}`;
    run('ip', 'netns', 'add', this.name);
  }

  open(): Netns {
    return Netns.open(this.path);
  }

  /** Runs iproute2 in it: the outside eye. */
  ip(...args: string[]): string {
    return run('ip', '-n', this.name, ...args);
  }

  ipJson(...args: string[]): Record<string, unknown>[] {
    return JSON.parse(this.ip('-j', '-d', ...args)) as Record<string, unknown>[];
  }

  [Symbol.dispose](): void {
    run('ip', 'netns', 'del', this.name);
  }
}
