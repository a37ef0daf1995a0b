/** Chance that can be repeated: the same seed gives the same choices. */
export interface Random {
  /** 0 <= whole number < bound */
  below(bound: number): number;
  pick<T>(list: readonly T[]): T;
  /** True so often: 0.1 is one time in ten. */
  chance(probability: number): boolean;
}

/** Mulberry32, a generator with 32 bits of state (public domain, Tommy Ettinger). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number) => Math.floor(next() * bound);
  return {
    below,
    pick: (list) => {
      if (list.length === 0) throw new RangeError('nothing to pick from');
      return list[below(list.length)] as (typeof list)[number];
    },
    chance: (probability) => next() < probability,
  };
}

/** So many of a list, in a random order. */
export function sample<T>(all: readonly T[], count: number, random: Random): T[] {
  const rest = [...all];
  const chosen: T[] = [];
  while (chosen.length < count && rest.length > 0) chosen.push(...rest.splice(random.below(rest.length), 1));
  return chosen;
}

/** `make soak` runs everything; `make test` a repeatable part of it. */
export const isSoak = process.env['SOAK'] === '1';

/** Other choices for another run: SEED=5 make soak. */
export const seed = Number(process.env['SEED'] ?? 1);
