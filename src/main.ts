/** The program's version, from package.json: set by build/bundle.ts. */
declare const PROGRAM_VERSION: string | undefined;
const version = typeof PROGRAM_VERSION === 'undefined' ? 'unpackaged' : PROGRAM_VERSION;

/** What a run ends with. For a CNI command stdout carries exactly one JSON document or nothing. */
interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr?: string;
}

async function plugin(command: string): Promise<Outcome> {
  let stdin = '';
  try {
    stdin = (await import('./kernel/streams.ts')).readStdin();
    if (command === 'VERSION') {
      const { formatVersion } = await import('./cni/versions.ts');
      return { exitCode: 0, stdout: formatVersion(stdin) };
    }
    const env = { ...process.env };
    // The first Date asks ICU for the host's time zone, which compares an /etc/localtime that is no link with all 900 files of
    // /usr/share/zoneinfo: 6 ms, 40 from a cold disk. All our times are UTC; the IPAM plugin gets the environment as it was.
    process.env['TZ'] = 'UTC';
    const { runCommand } = await import('./cni/command.ts');
    return { exitCode: 0, stdout: await runCommand(env, stdin) };
  } catch (error) {
    const { formatError } = await import('./cni/errors.ts');
    const { answeredVersion } = await import('./cni/versions.ts');
    return { exitCode: 1, stdout: formatError(error, answeredVersion(stdin)) };
  }
}

/** A call by netavark or podman, which know plugins as files in /usr/libexec/netavark and the like. */
async function netavark(args: readonly string[]): Promise<Outcome> {
  const { formatError, runPlugin } = await import('./podman/plugin.ts');
  try {
    const env = { ...process.env };
    process.env['TZ'] = 'UTC'; // as above
    const { readStdin } = await import('./kernel/streams.ts');
    return { exitCode: 0, stdout: await runPlugin(args, env, readStdin, version) };
  } catch (error) {
    return { exitCode: 1, stdout: formatError(error) };
  }
}

const netavarkWords = ['create', 'setup', 'teardown', 'info'];

async function tool(args: readonly string[]): Promise<Outcome> {
  const { main } = await import('./inspect/tool.ts');
  return main(args, process.env, version);
}

function called(args: readonly string[]): Promise<Outcome> {
  return netavarkWords.includes(args[0] ?? '') ? netavark(args) : tool(args);
}

/** Writes the answer, all of it, and ends the process without Node's and V8's teardown. */
async function end({ exitCode, stdout, stderr }: Outcome): Promise<void> {
  let streams;
  try {
    streams = await import('./kernel/streams.ts');
  } catch {
    // Without our native part there is only Node's way.
    if (stderr) process.stderr.write(`${stderr.trimEnd()}\n`);
    if (stdout) process.stdout.write(`${stdout.trimEnd()}\n`);
    process.exitCode = exitCode;
    return;
  }
  try {
    if (stderr) streams.writeStream('stderr', `${stderr.trimEnd()}\n`);
    if (stdout) streams.writeStream('stdout', `${stdout.trimEnd()}\n`);
    streams.exit(exitCode);
  } catch (error) {
    // Whoever called us has gone without waiting for the answer. A runtime sends DEL after an ADD that it did not see end.
    streams.complain(`sriov: cannot write the answer: ${(error as Error).message}`);
    streams.exit(1);
  }
}

const command = process.env['CNI_COMMAND'];
// Set but empty is a runtime's mistake, and it expects an answer in the plugin's form.
void (command === undefined ? called(process.argv.slice(2)) : plugin(command)).then(end);
