import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { provide } from '../../lab/cache.ts';
import { hostProgram } from '../../lab/host-program.ts';

/** Debian's valgrind, unpacked beside the lab's disk of that name: nothing of the machine changes. Returns the folder of its programs. */
async function fetchValgrind(): Promise<string> {
  const { host, disks } = await provide(['valgrind']);
  const tree = disks.valgrind.replace(/\.erofs$/, '');
  if (!existsSync(tree)) {
    const temporary = `${tree}.${process.pid}`;
    const args = [`--extract=${temporary}`, '--no-preserve', disks.valgrind];
    execFileSync(...hostProgram(`${host}/tree`, 'usr/bin/fsck.erofs', args), { stdio: 'ignore' });
    try {
      renameSync(temporary, tree);
    } catch (error) {
      if (!existsSync(tree)) throw error;
      rmSync(temporary, { recursive: true });
    }
  }
  return `${tree}/opt/valgrind/usr/libexec/valgrind`;
}

/** A program's run under callgrind. */
export interface Counted {
  readonly instructions: number;
  readonly stdout: string;
}

/**
 * Counts the instructions that a program executes in user space: the same to 1 percent on every run, however busy the machine is. It is blind
 * to what the kernel does for it. The program sees an empty /var/lib.
 */
export async function countInstructions(
  program: string,
  env: Readonly<Record<string, string>>,
  stdin: string,
): Promise<Counted> {
  const folder = await fetchValgrind();
  // The launcher is a script of the machine's; the tool itself is a static program.
  const callgrind = [`${folder}/callgrind-amd64-linux`, '--tool=callgrind', '--callgrind-out-file=/dev/null'];
  const script = 'mount -t tmpfs tmpfs /var/lib && exec "$@"';
  const { stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', script, 'sh', ...callgrind, program],
    {
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        VALGRIND_LIB: folder,
        VALGRIND_LAUNCHER: program,
        ...env,
      },
      input: stdin,
      encoding: 'utf8',
    },
  );
  const [, counted] = /Collected : (\d+)/.exec(stderr) ?? [];
  if (counted === undefined) throw new Error(`callgrind did not count ${program}:\n${stderr}`);
  return { instructions: Number(counted), stdout };
}
