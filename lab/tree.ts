import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { hostArch, type Arch } from './arch.ts';

const run = promisify(execFile);

/** Members of a package that nobody reads in a machine. */
const unread = ['doc', 'info', 'lintian', 'locale', 'man'].map((name) => `--exclude=./usr/share/${name}`);

/**
 * Unpacks packages into a folder without installing them: no maintainer script runs. The tree is merged (`/bin` is `/usr/bin`), as on every
 * installed Debian.
 */
export async function unpack(debs: readonly string[], tree: string): Promise<void> {
  merge(tree);
  const queue = [...debs];
  const worker = async () => {
    for (let deb = queue.pop(); deb !== undefined; deb = queue.pop()) await extract([deb], tree, unread);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

/** Unpacks of packages what matches the patterns (a path's end, `*` within a name); each must match something in one of them. */
export async function unpackMembers(
  debs: readonly string[],
  tree: string,
  patterns: readonly string[],
): Promise<void> {
  merge(tree);
  // Archives one after the other are one, but for the zeros in between.
  const options = ['--ignore-zeros', '--wildcards', '--no-anchored', '--no-wildcards-match-slash'];
  await extract(debs, tree, [...options, ...patterns]);
}

function merge(tree: string): void {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(`${tree}/usr/${name}`, { recursive: true });
    if (!existsSync(`${tree}/${name}`)) symlinkSync(`usr/${name}`, `${tree}/${name}`);
  }
}

async function extract(debs: readonly string[], tree: string, options: readonly string[]): Promise<void> {
  const script = `set -eo pipefail
    count=$1; debs=("\${@:2:count}"); shift $((count + 1))
    for deb in "\${debs[@]}"; do dpkg-deb --fsys-tarfile "$deb"; done | tar --extract "$@"`;
  const tar = ['--directory', tree, '--keep-directory-symlink', ...options];
  try {
    await run('bash', ['-c', script, 'unpack', String(debs.length), ...debs, ...tar], { maxBuffer: 1 << 24 });
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    throw new Error(`Cannot unpack ${debs.join(', ')}:\n${stderr.trim()}`, { cause: error });
  }
}

/** Does what the packages' maintainer scripts would have done, as far as a guest needs it. */
export async function settle(tree: string, arch: Arch): Promise<void> {
  for (const name of ['passwd', 'group']) {
    cpSync(`${tree}/usr/share/base-passwd/${name}.master`, `${tree}/etc/${name}`);
  }
  writeFileSync(`${tree}/etc/hostname`, 'lab\n');
  writeFileSync(`${tree}/etc/hosts`, '127.0.0.1 localhost lab\n::1 localhost\n');
  const alternatives = {
    'usr/bin/awk': 'gawk',
    'usr/sbin/iptables': 'xtables-nft-multi',
    'usr/sbin/ip6tables': 'xtables-nft-multi',
    'usr/sbin/iptables-save': 'xtables-nft-multi',
    'usr/sbin/iptables-restore': 'xtables-nft-multi',
  };
  for (const [link, target] of Object.entries(alternatives)) symlinkSync(target, `${tree}/${link}`);
  mkdirSync(`${tree}/opt/cni/bin`, { recursive: true });
  for (const plugin of readdirSync(`${tree}/usr/lib/cni`)) {
    cpSync(`${tree}/usr/lib/cni/${plugin}`, `${tree}/opt/cni/bin/${plugin}`);
  }
  chmodSync(`${tree}/root`, 0o755);
  // Without ld.so.cache every program looks for its libraries in a dozen folders first. On arm64 the first of them is the right one.
  if (arch === hostArch) await run(`${tree}/usr/sbin/ldconfig`, ['-r', tree]);
}
