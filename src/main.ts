// Set by the build.
declare const PROGRAM_VERSION: string | undefined;
declare const ENGINE_VERSION: string | undefined;
const version = typeof PROGRAM_VERSION === 'undefined' ? 'unpackaged' : PROGRAM_VERSION;
const engineVersion = typeof ENGINE_VERSION === 'undefined' ? 'unpackaged' : ENGINE_VERSION;

/** What a run ends with. For a CNI command stdout carries exactly one JSON document or nothing. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

async function plugin(command: string, env: Environment, uptimeMs: () => number): Promise<Outcome> {
  let stdin = '';
  try {
    stdin = (await import('./kernel/streams.ts')).readStdin();
    if (command === 'VERSION') {
      const { formatVersion } = await import('./cni/versions.ts');
      return { exitCode: 0, stdout: formatVersion(stdin) };
    }
    (await import('./kernel/clock.ts')).setUptime(uptimeMs());
    const { runCommand } = await import('./cni/command.ts');
    return { exitCode: 0, stdout: await runCommand(env, stdin) };
  } catch (error) {
    const { formatError } = await import('./cni/errors.ts');
    const { answeredVersion } = await import('./cni/versions.ts');
    return { exitCode: 1, stdout: formatError(error, answeredVersion(stdin)) };
  }
}

/** A call by netavark or podman, which know plugins as files in /usr/libexec/netavark and the like. */
async function netavark(args: readonly string[], env: Environment, uptimeMs: () => number): Promise<Outcome> {
  const { formatError, runPlugin } = await import('./podman/plugin.ts');
  try {
    (await import('./kernel/clock.ts')).setUptime(uptimeMs());
    const { readStdin } = await import('./kernel/streams.ts');
    return { exitCode: 0, stdout: await runPlugin(args, env, readStdin, version) };
  } catch (error) {
    return { exitCode: 1, stdout: formatError(error) };
  }
}

/** Docker's network driver, until it is told to end. */
async function docker(args: readonly string[], env: Environment): Promise<Outcome> {
  try {
    return await (await import('./docker/daemon.ts')).runDaemon(args, env);
  } catch (error) {
    return { exitCode: 1, stdout: '', stderr: `sriov docker: ${(error as Error).message}` };
  }
}

const netavarkWords = ['create', 'setup', 'teardown', 'info'];

/**
 * Runs the program: as what, environment and arguments tell.
 * @param uptimeMs for how long this process runs
 */
export async function run(
  args: readonly string[],
  env: Environment,
  uptimeMs: () => number,
): Promise<Outcome> {
  const command = env['CNI_COMMAND'];
  // Set but empty is a runtime's mistake, and it expects an answer in the plugin's form.
  if (command !== undefined) return plugin(command, env, uptimeMs);
  if (netavarkWords.includes(args[0] ?? '')) return netavark(args, env, uptimeMs);
  // Its manual is the tool's to show.
  if (args[0] === 'docker' && !args.some((arg) => arg === '--help' || arg === '-h'))
    return docker(args.slice(1), env);
  const { main } = await import('./inspect/tool.ts');
  return main(args, env, `${version} (${engineVersion})`);
}

/** Writes the answer, all of it, and ends the process at once. */
export async function end({ exitCode, stdout, stderr }: Outcome): Promise<never> {
  const { complain, exit, writeStream } = await import('./kernel/streams.ts');
  try {
    if (stderr) writeStream('stderr', `${stderr.trimEnd()}\n`);
    if (stdout) writeStream('stdout', `${stdout.trimEnd()}\n`);
  } catch (error) {
    // Whoever called us has gone without waiting for the answer. A runtime sends DEL after an ADD that it did not see end.
    complain(`sriov: cannot write the answer: ${(error as Error).message}`);
    exit(1);
  }
  return exit(exitCode);
}
