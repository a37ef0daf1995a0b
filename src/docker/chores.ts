import type { Caller } from '../attach/wish.ts';
import { nowMs } from '../kernel/clock.ts';
import type { Host } from '../vf/host.ts';
import { messageOf } from '../attach/failure.ts';
import { forgetNetworks } from './lost-networks.ts';
import { learnNames } from './names.ts';
import { noteStarting } from './starting.ts';
import { giveBackForgotten } from './forgotten.ts';

/** How often is looked for VFs that Docker has forgotten. */
const everyMs = 60_000;
/** When a container that was joined has started, and Docker knows it by its endpoint. */
const namesMs = 2_000;

/** What the driver does beside the calls, one thing after the other. */
export class Chores {
  readonly #host: Host;
  readonly #caller: Caller;
  readonly #api: string;
  #running = Promise.resolve();
  #isSweepWaiting = false;
  readonly #interval: NodeJS.Timeout;
  #names: NodeJS.Timeout | undefined;
  #namesDueMs = Infinity;

  constructor(host: Host, caller: Caller, api: string) {
    this.#host = host;
    this.#caller = caller;
    this.#api = api;
    this.#interval = setInterval(() => this.doAll(), everyMs);
  }

  /** All that is to be done from time to time, after what is being done now. */
  doAll(): void {
    this.#do('starting', () => noteStarting(this.#host, this.#api)); // before it could be taken for forgotten
    this.sweepSoon();
    this.#do('names', () => learnNames(this.#host, this.#api));
    this.#do('networks', () => forgetNetworks(this.#host, this.#api));
  }

  /** Sweeps after what is being answered now. */
  sweepSoon(): void {
    if (this.#isSweepWaiting) return;
    this.#isSweepWaiting = true;
    this.#do('sweep', async () => {
      this.#isSweepWaiting = false;
      await giveBackForgotten(this.#host, this.#caller);
    });
  }

  /**
   * Docker on a busy machine takes long to start a container: asks again, ever later, until all are known. A look that is due sooner does for
   * this one, too, or containers that start all the while would put it off for ever.
   */
  learnNamesSoon(afterMs = namesMs): void {
    const dueMs = nowMs() + afterMs;
    if (dueMs >= this.#namesDueMs) return;
    clearTimeout(this.#names);
    this.#namesDueMs = dueMs;
    const learn = async () => {
      this.#namesDueMs = Infinity;
      const areKnown = await learnNames(this.#host, this.#api);
      if (!areKnown && afterMs < everyMs) this.learnNamesSoon(2 * afterMs);
    };
    this.#names = setTimeout(() => this.#do('names', learn), afterMs);
  }

  #do(name: string, work: () => Promise<unknown>): void {
    this.#running = this.#running.then(async () => {
      try {
        await work();
      } catch (error) {
        this.#host.log.error('chore failed', { chore: name, error: messageOf(error) });
      }
    });
  }

  /** Begins nothing more, and waits for what has begun. */
  async end(): Promise<void> {
    this[Symbol.dispose]();
    await this.#running;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#interval);
    clearTimeout(this.#names);
  }
}
