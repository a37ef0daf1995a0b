import { system } from './system.ts';

/** Milliseconds of a clock that never jumps. */
export function nowMs(): number {
  return system.nowMs();
}

/** Milliseconds since this process started. */
export function uptimeMs(): number {
  return process.uptime() * 1e3;
}
