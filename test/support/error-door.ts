/** An error at each system call of a door that is no CNI: what error-matrix.ts does for CNI's commands. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callsWithoutWaiting, type ErrorPoint, findAlike, nthAlike, pointName } from './error-matrix.ts';
import { difference, type TestNode } from './node.ts';
import { plausibleErrors, unknownCalls } from './plausible-errors.ts';
import { isSoak, sample, seed, seeded } from './random.ts';
import { readTrace, type Trace, type TracedCall, tracing } from './strace.ts';

/** How a call of a door was answered. */
export interface DoorAnswer {
  /** 0: well; 1: with an error */
  readonly code: number;
  readonly text: string;
  readonly stderr: string;
}

/** A call of a door, in what it is tried. */
export interface DoorCall {
  readonly prepare: () => Promise<unknown>;
  /** @param strace a command line, before a program or before "-p" and a process id; "" for none */
  readonly run: (strace: string) => Promise<DoorAnswer>;
  /**
   * Goes on as the door's other side does after this answer, in one of several ways, until everything is free again.
   * @param way any whole number; each stands for one of the ways
   */
  readonly goOn: (answer: DoorAnswer, way: number) => Promise<unknown>;
}

/** A door with a device of its own, so that several can be tried in one machine. */
export interface ErrorDoor {
  /** Tells its traces from those of others. */
  readonly name: string;
  readonly calls: Readonly<Record<string, DoorCall>>;
  /** Which part of a trace is the call: what is before and after it is the engine's. */
  readonly own: (calls: readonly TracedCall[]) => readonly TracedCall[];
  /**
   * The command line that puts an error (strace's `inject=`) at a call.
   * @param isQuick where the kernel can stop the program at this call only; its children may then be hit instead
   */
  readonly injecting: (call: string, injection: string, isQuick: boolean) => string;
  /** Errors at a call that are none of ours to survive, or one that the list of all doors does not have. */
  readonly errorsAt?: (call: TracedCall) => readonly string[] | undefined;
  /** What is wrong with an answer by itself; `hit`: where the error was. */
  readonly judge: (answer: DoorAnswer, hit: TracedCall) => readonly string[];
  /** Everything of its device's and ours that a call may change. */
  readonly state: () => Promise<unknown>;
  /** Whether a record says that something is still to be undone. */
  readonly isRecorded: () => Promise<boolean>;
  /** Brings everything back by whatever helps, so that one failure does not hide the others. */
  readonly clean: () => Promise<unknown>;
}

/** What a list of `wrong` says is wrong with an error's text for a user. */
export function complaintsAbout(text: string): string[] {
  return [
    /\n|\.[jt]s:\d+/.test(text) ? 'the message is no single line' : '',
    /[/"]|\d:\d|\w\(\)|socket/.test(text)
      ? ''
      : `the message names no file, VF, program or system call: ${text}`,
  ].filter(Boolean);
}

async function pointsOf(node: TestNode, door: ErrorDoor, name: string): Promise<ErrorPoint[]> {
  const call = callOf(door, name);
  await call.prepare();
  const answer = await call.run(tracing(door.name));
  if (answer.code !== 0) throw new Error(`${name} fails: ${answer.text} ${answer.stderr}`);
  await call.goOn(answer, 0);
  const calls = door.own((await readTrace(node, door.name)).calls);
  if (calls.length === 0) throw new Error(`${name} is not in its trace`);
  const unknown = unknownCalls(calls);
  if (unknown.length > 0)
    throw new Error(`${name} makes calls of which nobody has said how they fail: ${unknown.join(', ')}`);
  return callsWithoutWaiting(calls).flatMap((one) => {
    const nth = nthAlike(calls, one);
    const errors = door.errorsAt?.(one) ?? plausibleErrors(one);
    return errors.map((errno) => ({ situation: name, call: one, nth, errno }));
  });
}

function callOf(door: ErrorDoor, name: string): DoorCall {
  const found = door.calls[name];
  if (!found) throw new Error(`no call ${name}`);
  return found;
}

/** Where the error was, if that was in the call. */
function hitOf(door: ErrorDoor, { hit, calls, othersWereHit }: Trace): TracedCall | undefined {
  return hit && !othersWereHit && door.own(calls).includes(hit) ? hit : undefined;
}

/** Tries one error; returns what went wrong, "" if nothing did, undefined if the call never made that system call. */
async function tryPoint(
  node: TestNode,
  door: ErrorDoor,
  pristine: unknown,
  point: ErrorPoint,
  way: number,
): Promise<string | undefined> {
  const { situation, errno } = point;
  const { name } = point.call;
  const call = callOf(door, situation);
  let isQuick = true;
  let { n } = point.call;
  for (let tries = 0; tries < 3; tries++) {
    await call.prepare();
    const answer = await call.run(door.injecting(name, `error=${errno}:when=${n}`, isQuick));
    const trace = await readTrace(node, door.name);
    const hit = hitOf(door, trace);
    if (!hit) {
      isQuick &&= !trace.othersWereHit;
      n = findAlike(door.own(trace.calls), point)?.n ?? n;
      await door.clean();
      continue;
    }
    const wrong = [...door.judge(answer, hit)];
    const left = difference(pristine, await door.state());
    if (answer.code !== 0 && left && !(await door.isRecorded())) wrong.push(`lost, no claim: ${left}`);
    try {
      await call.goOn(answer, way);
      const after = difference(pristine, await door.state());
      if (after) wrong.push(`left behind:\n${after}`);
    } catch (error) {
      wrong.push((error as Error).message);
    }
    if (wrong.length === 0) return '';
    await door.clean();
    return `${wrong.join('\n  ')}\n  (${hit.line.slice(0, 160)})\n  answer ${answer.code} ${answer.text} ${answer.stderr}`;
  }
  return undefined;
}

/**
 * Puts every plausible error at every system call of every call of a door, one at a time.
 * @param sampled how many of a call's points `make test` takes; 0: it leaves that call to `make soak`
 */
export function describeDoorErrors(
  kind: string,
  sampled: Readonly<Record<string, number>>,
  start: () => Promise<{ node: TestNode; doors: readonly ErrorDoor[] }>,
): void {
  let node: TestNode;
  let doors: readonly ErrorDoor[];
  let pristine: unknown;
  const pristineOf = new Map<ErrorDoor, unknown>();
  beforeAll(async () => {
    ({ node, doors } = await start());
    await Promise.all(doors.map((door) => door.clean()));
    for (const door of doors) pristineOf.set(door, await door.state());
    pristine = await node.state();
  }, 900_000);
  afterAll(() => node[Symbol.asyncDispose]());

  test.each(Object.keys(sampled).filter((name) => isSoak || process.env['ERRORS'] || sampled[name]))(
    `${kind}, an error at every system call: %s`,
    { timeout: 14_400_000 },
    async (name) => {
      const [first] = doors;
      if (!first) throw new Error('no door');
      const all = await pointsOf(node, first, name);
      const wanted = process.env['POINTS'] === undefined ? undefined : new RegExp(process.env['POINTS']);
      const count = isSoak ? all.length : Number(process.env['ERRORS'] ?? sampled[name] ?? 0);
      const queue = wanted
        ? all.filter((point) => wanted.test(pointName(point)))
        : sample(all, count, seeded(seed));
      const total = queue.length;
      const failures: string[] = [];
      let [tried, missed] = [0, 0];
      const worker = async (door: ErrorDoor) => {
        for (let point = queue.pop(); point; point = queue.pop()) {
          const wrong = await tryPoint(node, door, pristineOf.get(door), point, queue.length).catch(
            (error: unknown) => door.clean().then(() => String(error)),
          );
          if (wrong === undefined) missed++;
          else tried++;
          if (!wrong) continue;
          failures.push(`${name}, ${pointName(point)}: ${wrong}`);
          console.log(failures.at(-1));
        }
      };
      await Promise.all(doors.map(worker));
      console.log(
        `${kind}, ${name}: ${tried - failures.length} of ${tried} errors survived, ${missed} not reached (of ${all.length}, ${total} chosen)`,
      );
      expect(failures).toEqual([]);
      for (const door of doors) await door.clean();
      expect(difference(pristine, await node.state())).toBe('');
    },
  );
}
