import { Log } from '../../src/kernel/log.ts';
import type { Host } from '../../src/vf/host.ts';
import { TestNetns } from './netns.ts';
import { sysfsTree, temporaryTree, type Tree } from './sysfs-tree.ts';

/** A host whose sysfs is a tree literal, and whose links are real ones in a network namespace. Gone with its scope. */
export class TestHost implements Disposable {
  readonly netns = new TestNetns();
  readonly state: { readonly root: string } & Disposable;
  readonly host: Host;
  readonly #sysfs: ReturnType<typeof sysfsTree>;

  /** @param state the folder of claims and locks */
  constructor(sysfs: readonly Tree[], state: Tree = {}) {
    this.state = temporaryTree(state);
    this.#sysfs = sysfsTree(...sysfs);
    this.host = {
      sys: this.#sysfs.sys,
      netns: this.netns.open(),
      stateDir: this.state.root,
      bootId: 'boot',
      log: new Log('panic'),
    };
  }

  [Symbol.dispose](): void {
    for (const one of [this.host.netns, this.state, this.#sysfs, this.netns]) one[Symbol.dispose]();
  }
}
