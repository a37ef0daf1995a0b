import { readFileSync, writeSync } from 'node:fs';

/** The program's version, from package.json: set by build/bundle.ts. */
declare const PROGRAM_VERSION: string | undefined;

/** What a run ends with. For a CNI command stdout carries exactly one JSON document or nothing. */
interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr?: string;
}

/** How the run ends. */
let exit = (code: number): void => process.exit(code);

async function plugin(command: string): Promise<Outcome> {
  const stdin = readFileSync(0, 'utf8');
  const { answeredVersion, formatVersion } = await import('./cni/versions.ts');
  if (command === 'VERSION') return { exitCode: 0, stdout: formatVersion(stdin) };
  const env = { ...process.env };
  // The first Date asks ICU for the host's time zone, which compares an /etc/localtime that is no link with all 900 files of
  // /usr/share/zoneinfo: 6 ms, 40 from a cold disk. All our times are UTC; the IPAM plugin gets the environment as it was.
  process.env['TZ'] = 'UTC';
  try {
    const { runCommand } = await import('./cni/command.ts');
    const { native } = await import('./kernel/native.ts');
    exit = (code) => native.exit(code); // without Node's and V8's teardown
    return { exitCode: 0, stdout: await runCommand(env, stdin) };
  } catch (error) {
    const { formatError } = await import('./cni/errors.ts');
    return { exitCode: 1, stdout: formatError(error, answeredVersion(stdin)) };
  }
}

async function tool(args: readonly string[]): Promise<Outcome> {
  const { main } = await import('./inspect/tool.ts');
  return main(args, process.env, typeof PROGRAM_VERSION === 'undefined' ? 'unpackaged' : PROGRAM_VERSION);
}

const command = process.env['CNI_COMMAND'];
// Set but empty is a runtime's mistake, and it expects an answer in the plugin's form.
const outcome = command === undefined ? tool(process.argv.slice(2)) : plugin(command);
void outcome.then(({ exitCode, stdout, stderr }) => {
  try {
    if (stderr) writeSync(2, `${stderr.trimEnd()}\n`);
    if (stdout) writeSync(1, `${stdout.trimEnd()}\n`);
    exit(exitCode);
  } catch (error) {
    // Whoever called us has gone without waiting for the answer. A runtime sends DEL after an ADD that it did not see end.
    writeSync(2, `sriov: cannot write the answer: ${(error as Error).message}\n`);
    process.exit(1);
  }
});
