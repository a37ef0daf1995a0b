/** A program for the second engine: what it does depends on its first argument. */
import { runTimers } from '../../src/engine/globals.ts';
import { probe } from './probe.ts';

declare const addon: Parameters<typeof probe>[0] & {
  print(text: string): void;
  nextFd(): number;
  signals(): string;
};

export { runTimers };
export const ready = Promise.resolve();

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const recurse = (depth: number): number => recurse(depth + 1) + 1;

async function timers(): Promise<string> {
  const order: number[] = [];
  const cancelled = setTimeout(() => order.push(0), 5);
  setTimeout(() => order.push(2), 30);
  setTimeout(() => order.push(1), 10);
  clearTimeout(cancelled);
  await pause(50);
  return order.join();
}

const programs: Record<string, (args: readonly string[], env: Readonly<Record<string, string>>) => unknown> =
  {
    probe: () => JSON.stringify(probe(addon)),
    environment: (args, env) => JSON.stringify({ args, env, random: Math.random(), now: Date.now() }),
    timers,
    parser: () => {
      try {
        return String((Reflect.construct(Function, ['return 1']) as () => unknown)());
      } catch (error) {
        return (error as Error).name;
      }
    },
    throw: () => {
      throw new TypeError('thrown on purpose');
    },
    reject: async () => {
      void Promise.reject(new Error('rejected on purpose'));
      await pause(1000);
    },
    late: async () => {
      const failing = Promise.reject(new Error('handled in time'));
      await failing.catch(() => undefined);
      return 'went on';
    },
    timer: async () => {
      setTimeout(() => recurse(0), 1);
      await pause(1000);
    },
    stuck: () => new Promise(() => undefined),
    deep: () => recurse(0),
    memory: () => {
      const hoard: unknown[] = [];
      for (;;) hoard.push([hoard.length]);
    },
    streams: () => String(addon.nextFd()),
    signals: () => addon.signals(),
    exit: () => undefined,
  };

/** The build's rehearsal, which must not call the addon: it is told that `nextFd` is 7. */
export async function rehearse(): Promise<number> {
  const isPretended = (await programs['streams']?.([], {})) === '7';
  return isPretended ? 0 : 1;
}

export function pretend(name: string): unknown {
  return name === 'nextFd' ? 7 : undefined;
}

export async function main(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const printed = await programs[args[0] ?? '']?.(args, env);
  if (typeof printed === 'string') addon.print(printed);
  return args[0] === 'exit' ? Number(args[1]) : 0;
}
