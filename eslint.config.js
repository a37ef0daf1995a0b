import tseslint from 'typescript-eslint';

/**
 * Dependencies point one way: main -> inspect -> a front door (cni, podman, docker) -> attach -> dpdk, rdma -> vf -> kernel. A folder may
 * import itself and what stands below it; a front door never imports another one. The second engine knows none of them.
 */
const above = {
  engine: ['kernel', 'vf', 'rdma', 'dpdk', 'attach', 'cni', 'podman', 'docker', 'inspect', 'main'],
  kernel: ['vf', 'rdma', 'dpdk', 'attach', 'cni', 'podman', 'docker', 'inspect', 'main'],
  vf: ['rdma', 'dpdk', 'attach', 'cni', 'podman', 'docker', 'inspect', 'main'],
  rdma: ['dpdk', 'attach', 'cni', 'podman', 'docker', 'inspect', 'main'],
  dpdk: ['attach', 'cni', 'podman', 'docker', 'inspect', 'main'],
  attach: ['cni', 'podman', 'docker', 'inspect', 'main'],
  cni: ['podman', 'docker', 'inspect', 'main'],
  podman: ['cni', 'docker', 'inspect', 'main'],
  docker: ['cni', 'podman', 'inspect', 'main'],
  inspect: ['main'],
};

/** Where the native parts are loaded, and the socket of the netlink package. The static executable has other files there. */
const onNode = ['src/kernel/addon.ts', 'src/kernel/netlink-package.ts'];

/** The Docker driver is a server, and part of the executable on Node only. */
const daemon = ['src/docker/daemon.ts', 'src/docker/server.ts', 'src/docker/dockerd.ts'];

/** Everything else is plain TypeScript that runs on any engine. */
const noNode = {
  regex: '^(node:|netlink)',
  message: `Only ${[...onNode, ...daemon].join(' and ')} import Node modules: add a call to src/kernel/system.ts.`,
};

const asyncFiles = {
  name: 'node:fs/promises',
  message: 'Use synchronous file calls: the thread pool lives in whatever network namespace it was born in.',
};

function directionOf(folder) {
  return above[folder].map((upper) => ({
    regex: `^\\.\\./(.*/)?${upper}(/|\\.ts$)`,
    message:
      `src/${folder}/ must not import ${upper}: dependencies point main -> inspect -> cni, podman, docker ` +
      '(none imports another) -> attach -> dpdk -> rdma -> vf -> kernel.',
  }));
}

function direction(folder) {
  return {
    files: [`src/${folder}/**/*.ts`],
    rules: {
      'no-restricted-imports': ['error', { paths: [asyncFiles], patterns: [...directionOf(folder), noNode] }],
    },
  };
}

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'eslint.config.js'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true, named: true } }],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      // A promise returned from a scope with `using` would outlive what the scope holds: a lock, a namespace.
      '@typescript-eslint/return-await': ['error', 'in-try-catch'],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
    },
  },
  ...Object.keys(above).map(direction),
  { files: onNode, rules: { 'no-restricted-imports': ['error', asyncFiles.name] } },
  {
    files: daemon,
    rules: {
      'no-restricted-imports': ['error', { paths: [asyncFiles], patterns: directionOf('docker') }],
    },
  },
  { files: ['src/main.ts'], rules: { 'no-restricted-imports': ['error', { patterns: [noNode] }] } },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/node.ts', ...onNode],
    rules: {
      'no-restricted-globals': [
        'error',
        { name: 'process', message: 'Only src/node.ts touches the process.' },
        { name: 'Buffer', message: 'Use Uint8Array, or a call of src/kernel/system.ts.' },
      ],
    },
  },
  {
    files: ['build/**', 'lab/**', 'bench/**', 'test/**', '*.ts'],
    rules: { 'no-console': 'off', 'no-restricted-exports': 'off' },
  },
);
