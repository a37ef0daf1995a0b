/** Lets one piece of work at a time on each of many things: the next one begins when the one before has ended, however that was. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  async take<T>(key: string, work: () => Promise<T> | T): Promise<T> {
    const before = this.#last.get(key);
    const own = (async () => {
      try {
        await before;
      } catch {
        // whoever did that was told
      }
      return work();
    })();
    this.#last.set(key, own);
    try {
      return await own;
    } finally {
      if (this.#last.get(key) === own) this.#last.delete(key);
    }
  }
}
