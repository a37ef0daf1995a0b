/** What programs take for granted of a JavaScript host and the engine does not bring. */

// Of host.c
declare const monotonicMs: () => number;
declare const utf8: (text: string) => Uint8Array;

interface Timer {
  readonly dueMs: number;
  readonly run: () => void;
}

/** In the order in which they were set. */
const timers = new Map<number, Timer>();
let lastId = 0;

function setTimeout(run: () => void, delayMs = 0): number {
  timers.set(++lastId, { dueMs: monotonicMs() + Math.max(delayMs, 1), run });
  return lastId;
}

function clearTimeout(id: number | undefined): void {
  if (id !== undefined) timers.delete(id);
}

function nextTimer(): [id: number, timer: Timer] | undefined {
  let next: [number, Timer] | undefined;
  for (const entry of timers) if (next === undefined || entry[1].dueMs < next[1].dueMs) next = entry;
  return next;
}

/** Runs the timer that is due first, if one is; how many milliseconds are left until the next, -1 if there is none. */
export function runTimers(): number {
  const due = nextTimer();
  if (due !== undefined && due[1].dueMs <= monotonicMs()) {
    timers.delete(due[0]);
    due[1].run();
  }
  const next = nextTimer();
  return next === undefined ? -1 : Math.max(0, next[1].dueMs - monotonicMs());
}

class TextEncoder {
  encode(text: string): Uint8Array {
    return utf8(text);
  }
}

Object.assign(globalThis, { setTimeout, clearTimeout, TextEncoder });
