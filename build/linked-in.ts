/** What the second engine's programs have in the place of modules that are Node's. */
import { resolve } from 'node:path';
import type { Plugin } from 'esbuild';

/** What is linked in is loaded already, netlink needs no package, and there is no server. */
export const linkedIn: Plugin = {
  name: 'linked-in',
  setup(bundler) {
    bundler.onResolve({ filter: /\/addon\.ts$/ }, () => ({ path: 'addon', namespace: 'linked-in' }));
    bundler.onLoad({ filter: /.*/, namespace: 'linked-in' }, () => ({
      contents: `export const loadAddon = () => addon; export class CannotLoadAddon extends Error {}`,
    }));
    bundler.onResolve({ filter: /\/netlink-package\.ts$/ }, () => ({
      path: resolve('src/kernel/netlink-direct.ts'),
    }));
    bundler.onResolve({ filter: /\/docker\/daemon\.ts$/ }, () => ({
      path: resolve('src/docker/elsewhere.ts'),
    }));
  },
};
