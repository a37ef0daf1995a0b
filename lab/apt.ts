import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The suites that one release is made of: backports stand on their stable release. */
const suites: Readonly<Record<string, readonly string[]>> = {
  bookworm: ['bookworm'],
  'trixie-backports': ['trixie', 'trixie-backports'],
  sid: ['sid'],
};

/** Debian's packages of one release, seen through the machine's own apt but with nothing installed. */
export interface Apt {
  /** The names of the packages and of everything they depend on. */
  closure(packages: readonly string[]): Promise<string[]>;
  /** Downloads packages into the folder `archives` and returns it. */
  download(packages: readonly string[]): Promise<string>;
}

/**
 * Prepares apt in a folder of its own: the machine's lists, cache and package state are neither used nor touched.
 * Proxies, credentials and the mirror come from the machine's configuration.
 * @param architecture Debian's name of another one than the machine's
 */
export async function openApt(folder: string, release: string, architecture?: string): Promise<Apt> {
  const mirror = await machineMirror(folder);
  const archives = `${folder}/archives`;
  await mkdir(`${folder}/lists/partial`, { recursive: true });
  await mkdir(`${archives}/partial`, { recursive: true });
  const sources = (suites[release] ?? [release]).map(
    (suite) => `deb [signed-by=${keyring}] ${mirror} ${suite} main`,
  );
  await writeFile(`${folder}/sources.list`, sources.join('\n') + '\n');
  const options = Object.entries({
    'Dir::Etc::SourceList': `${folder}/sources.list`,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::Etc::Preferences': '/dev/null',
    'Dir::Etc::PreferencesParts': '/dev/null',
    'Dir::State': folder,
    'Dir::State::Lists': `${folder}/lists`,
    'Dir::State::Status': '/dev/null',
    'Dir::Cache': folder,
    'Dir::Cache::Archives': archives,
    // Images for containers turn these off; without them every call reads the lists anew.
    'Dir::Cache::Pkgcache': 'pkgcache.bin',
    'Dir::Cache::Srcpkgcache': 'srcpkgcache.bin',
    'APT::Default-Release': release,
    ...(architecture !== undefined && {
      'APT::Architecture': architecture,
      'APT::Architectures': architecture,
    }),
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
  }).flatMap(([key, value]) => ['-o', `${key}=${value}`]);

  async function apt(args: readonly string[], cwd = folder): Promise<string> {
    try {
      const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
      const { stdout } = await run('apt-get', [...options, '-qq', ...args], { cwd, env, maxBuffer: 1 << 26 });
      return stdout;
    } catch (error) {
      const { stderr = '' } = error as { stderr?: string };
      throw new Error(`Cannot use Debian's ${release}: apt-get ${args[0]} failed:\n${stderr.trim()}`, {
        cause: error,
      });
    }
  }

  await apt(['update']);
  return {
    async closure(packages) {
      const plan = await apt(['--simulate', 'install', ...packages]);
      return [...plan.matchAll(/^Inst (\S+)/gm)].map(([, name]) => name as string);
    },
    async download(packages) {
      await apt(['download', ...packages], archives);
      return archives;
    },
  };
}

/** The base address of the Debian mirror that this machine's apt uses; works before any `apt-get update`. */
async function machineMirror(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const { stdout } = await run('apt-get', [
    '--print-uris',
    'update',
    '-o',
    `Dir::State::Lists=${folder}/none`,
  ]);
  const uri = /^'(\S+?)\/?dists\/(?:bookworm|trixie|forky|sid|stable|oldstable)\/\S*InRelease'/m.exec(
    stdout,
  )?.[1];
  if (uri === undefined) {
    throw new Error("Cannot find a Debian mirror: this machine's apt sources name none of Debian's releases");
  }
  return uri;
}
