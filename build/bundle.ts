/**
 * Bundles src/node.ts with everything it imports into one script, dist/sriov.js; the operator's tool and the Docker driver into others,
 * dist/tool.js and dist/docker.js.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { build, type BuildOptions, type Plugin } from 'esbuild';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

const addons = resolve('src/kernel/addon.ts');

/**
 * The netlink package loads its addon by file name and pulls in all of `util` and `os` for one constant each (36 of Node's modules: 20 ms
 * per start). It gets our loader and those constants instead.
 */
const netlinkShims: Record<string, string> = {
  'node-gyp-build': `const { loadAddon } = require(${JSON.stringify(addons)});
    module.exports = () => loadAddon('netlink');`,
  util: `export const getSystemErrorName = (errno) => 'errno ' + -errno;`,
  os: `export const constants = { errno: { EADDRINUSE: 98 } }; export const endianness = () => 'LE';`,
};

const netlinkPackage: Plugin = {
  name: 'netlink-package',
  setup(bundler) {
    bundler.onResolve({ filter: /^(node-gyp-build|util|os)$/ }, ({ path, importer }) =>
      importer.includes('/node_modules/netlink/') ? { path, namespace: 'netlink-shim' } : undefined,
    );
    bundler.onLoad({ filter: /.*/, namespace: 'netlink-shim' }, ({ path }) => ({
      contents: netlinkShims[path] ?? '',
      resolveDir: '.',
    }));
  },
};

/**
 * Most calls parse no IP address, or none of IPv6, and loading the ip-address package costs 6 million instructions: its classes stand for
 * themselves until their first use.
 */
const lazyIpAddress: Plugin = {
  name: 'lazy-ip-address',
  setup(bundler) {
    bundler.onResolve({ filter: /^ip-address$/ }, ({ path, importer, namespace }) =>
      namespace === 'file' && !importer.includes('/node_modules/') ? { path, namespace: 'lazy' } : undefined,
    );
    bundler.onLoad({ filter: /.*/, namespace: 'lazy' }, () => ({
      contents: `
        const onUse = (load) => new Proxy(function () {}, {
          construct: (_, args) => Reflect.construct(load(), args),
          get: (_, key) => load()[key],
        });
        export const Address4 = onUse(() => require('ip-address/dist/ipv4.js').Address4);
        export const Address6 = onUse(() => require('ip-address/dist/ipv6.js').Address6);`,
      resolveDir: '.',
    }));
  },
};

/** Modules that are scripts of their own, by the name of the asset, with what they export. */
const assets = [
  { name: 'tool', module: './inspect/tool.ts', exported: 'main' },
  { name: 'docker', module: './docker/daemon.ts', exported: 'runDaemon' },
];

/**
 * V8 reads the whole code cache of a script at every start, so the plugin's script is kept free of the tool and the Docker driver. Those are
 * assets that are compiled when they are used.
 */
const lateAssets: Plugin = {
  name: 'late-assets',
  setup(bundler) {
    bundler.onResolve({ filter: /^\.\/(inspect|docker)\// }, ({ path }) =>
      assets.some(({ module }) => module === path) ? { path, namespace: 'asset' } : undefined,
    );
    bundler.onLoad({ filter: /.*/, namespace: 'asset' }, ({ path }) => {
      const { name, exported } = assets.find(({ module }) => module === path) ?? {};
      return {
        contents: `
          const own = { exports: {} };
          const source = process.getBuiltinModule('node:sea').getAsset('${name}', 'utf8');
          const shared = (name) => name === 'addon' ? require(${JSON.stringify(addons)}) : require(name);
          new Function('require', 'module', 'exports', source)(shared, own, own.exports);
          export const { ${exported} } = own.exports;`,
        resolveDir: '.',
      };
    });
  },
};

/** The native addons are loaded once, by the plugin's script, which needs them to write what the tool says. */
const sharedAddons: Plugin = {
  name: 'shared-addons',
  setup(bundler) {
    bundler.onResolve({ filter: /\/addon\.ts$/ }, () => ({ path: 'addon', external: true }));
  },
};

const common: BuildOptions = {
  bundle: true,
  // Identifiers stay: they tell a bug report where it happened, and with esbuild's keepNames every function would be given its name
  // again at each start (4 million instructions).
  minifySyntax: true,
  platform: 'node',
  target: 'node22',
  format: 'cjs',
  mainFields: ['module', 'main'],
  define: {
    PACKAGED: 'true',
    PROGRAM_VERSION: JSON.stringify(version),
    ENGINE_VERSION: JSON.stringify(`Node.js ${process.versions.node}`),
    'import.meta.url': '""',
    __dirname: '""',
  },
  logLevel: 'warning',
};
const plugins = [netlinkPackage, lazyIpAddress];
for (const { name, module } of assets) {
  await build({
    ...common,
    entryPoints: [module.replace('.', 'src')],
    outfile: `dist/${name}.js`,
    plugins: [sharedAddons, ...plugins],
  });
}
await build({
  ...common,
  minifyWhitespace: true,
  entryPoints: ['src/node.ts'],
  outfile: 'dist/sriov.js',
  plugins: [...plugins, lateAssets],
});
