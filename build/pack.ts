/**
 * Makes dist/sriov, the single executable: the bundle and both addons inside a stripped Node, by @yao-pkg/pkg in its plain SEA form.
 *
 * pkg's command line drops seaConfig and the path of the base executable, and its package form starts 17 ms later (a virtual file system);
 * so its own sea() is called directly. docs/packaging.md has the measurements.
 */
import childProcess from 'node:child_process';
import { renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { promisify } from 'node:util';

const require = createRequire(import.meta.url);

/**
 * The blob's code cache carries a hash of V8's flags, so the process that makes it needs those of the executable; a cache made without
 * them is rejected at every start. docs/performance.md has what each is worth.
 */
const v8Flags = [
  // The hash seed is fixed then, which matters to programs that keep serving untrusted input.
  '--no-rehash-snapshot',
  // Every function is in the cache.
  '--no-lazy',
  // Nothing runs often enough to be worth compiling; and a host may refuse memory that is both writable and executable. WebAssembly
  // needs the compiler, so without the second flag V8 warns.
  '--jitless',
  '--no-expose-wasm',
  // In MB: a run makes fewer objects than that, so it needs no garbage collection.
  '--min-semi-space-size=4',
];

const nodeFlags = [
  // Else every start reads the host's /etc/ssl/openssl.cnf, or what OPENSSL_CONF names: a mistake there would end it without an answer,
  // and a provider section in it loads any library into a root process. We use no TLS.
  '--openssl-config=/dev/null',
];

type ExecFile = typeof childProcess.execFile;

/** Hands the V8 flags to the `node --experimental-sea-config` run that pkg starts; must be in place before pkg is loaded. */
function patchExecFile(): void {
  const real = childProcess.execFile;
  const withFlags = (args: readonly string[]) =>
    args[0] === '--experimental-sea-config' ? [...v8Flags, ...args] : args;
  const patched = (file: string, args: readonly string[], ...rest: []) =>
    real(file, withFlags(args), ...rest);
  Object.assign(patched, {
    [promisify.custom]: (file: string, args: readonly string[], ...rest: []) =>
      promisify(real)(file, withFlags(args), ...rest),
  });
  childProcess.execFile = patched as ExecFile;
}

patchExecFile();
const { default: sea } = require('@yao-pkg/pkg/lib-es5/sea.js') as {
  default: (bundle: string, options: object) => Promise<void>;
};

// pkg works in a temporary folder of its own, so every path is absolute. A run that is interrupted leaves no half executable.
const output = resolve('dist/sriov');
const unfinished = `${output}.tmp`;
rmSync(unfinished, { force: true });
await sea(resolve('dist/sriov.js'), {
  nodePath: resolve('dist/node'),
  signature: false,
  targets: [
    {
      nodeRange: `node${process.versions.node}`,
      platform: 'linux',
      arch: process.arch,
      output: unfinished,
    },
  ],
  seaConfig: {
    disableExperimentalSEAWarning: true,
    useSnapshot: false,
    useCodeCache: true,
    execArgv: [...v8Flags, ...nodeFlags],
    // NODE_OPTIONS of whoever calls us must not run code in a root process.
    execArgvExtension: 'none',
    assets: {
      tool: resolve('dist/tool.js'),
      docker: resolve('dist/docker.js'),
      system: resolve('dist/native/system.node'),
      netlink: resolve(`node_modules/netlink/prebuilds/linux-${process.arch}/node.napi.node`),
    },
  },
});
renameSync(unfinished, output);
