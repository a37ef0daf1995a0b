import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { hostArch, type Arch } from './arch.ts';

const run = promisify(execFile);

/** Members of a package that nobody reads in a machine. */
const unread = ['doc', 'info', 'lintian', 'locale', 'man'].map((name) => `--exclude=./usr/share/${name}`);

/**
 * Unpacks packages into a folder without installing them: no maintainer script runs. `tarOptions` select or drop members.
 * The tree is merged (`/bin` is `/usr/bin`), as on every installed Debian.
 */
export async function unpack(
  debs: readonly string[],
  tree: string,
  tarOptions: readonly string[] = [],
): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(`${tree}/usr/${name}`, { recursive: true });
    if (!existsSync(`${tree}/${name}`)) symlinkSync(`usr/${name}`, `${tree}/${name}`);
  }
  const script = 'set -o pipefail; deb=$1; shift; dpkg-deb --fsys-tarfile "$deb" | tar --extract "$@"';
  const options = ['--directory', tree, '--keep-directory-symlink', ...unread, ...tarOptions];
  const queue = [...debs];
  const worker = async () => {
    for (let deb = queue.pop(); deb !== undefined; deb = queue.pop()) {
      try {
        await run('bash', ['-c', script, 'unpack', deb, ...options], { maxBuffer: 1 << 24 });
      } catch (error) {
        const { stderr = '' } = error as { stderr?: string };
        throw new Error(`Cannot unpack ${deb}:\n${stderr.trim()}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
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
