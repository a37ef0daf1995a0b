import { system } from './system.ts';

/** Milliseconds of a clock that never jumps. */
export function nowMs(): number {
  return system.nowMs();
}

let startMs = 0;

/** Tells how long ago this process started, in milliseconds. */
export function setUptime(ms: number): void {
  startMs = nowMs() - ms;
}

/** Milliseconds since this process started. */
export function uptimeMs(): number {
  return nowMs() - startMs;
}
