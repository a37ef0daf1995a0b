import { toCniError } from '../cni/error-codes.ts';
import { nearest } from '../attach/spelling.ts';
import { Errno, isErrno } from '../kernel/errno.ts';
import { parseArguments } from '../kernel/arguments.ts';
import { Log } from '../kernel/log.ts';
import { terminal } from '../kernel/terminal.ts';
import { type Host, thisHost } from '../vf/host.ts';
import { parsePci } from '../vf/inventory.ts';
import { help, helpOn, manuals } from './help.ts';
import { printableLines } from './table.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';

type Command = (host: Host, words: readonly string[], flags: Flags) => Promise<Outcome>;

/** How each command of help.ts is loaded and run. */
const commands: Readonly<Record<string, Command>> = {
  list: async (host, words, flags) =>
    words.length > 0
      ? wrongUsage('list', 'it takes no words')
      : (await import('./list.ts')).list(host, flags),
  inspect: async (host, words, flags) => (await import('./inspect.ts')).inspect(host, words, flags),
  check: async (host, words, flags) => (await import('./dry-run.ts')).dryRun(host, words, flags),
  metrics: async (host, words, flags) =>
    words.length > 0
      ? wrongUsage('metrics', 'it takes no words')
      : (await import('./metrics.ts')).metrics(host, flags),
  vfs: async (host, words, flags) => (await import('./vfs.ts')).vfs(host, words, flags),
  gc: async (host, words, flags) =>
    words.length > 0
      ? wrongUsage('gc', 'it takes no words')
      : (await import('./sweep.ts')).sweep(host, flags),
  release: async (host, words, flags) => (await import('./take-back.ts')).takeBack(host, words, flags),
};

const options = {
  json: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  force: { type: 'boolean' },
  device: { type: 'string' },
  output: { type: 'string' },
  verbose: { type: 'boolean', short: 'v' },
  version: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

interface CommandLine {
  readonly name: string | undefined;
  readonly words: readonly string[];
  readonly given: ReadonlyMap<string, string | true>;
}

/** Understands the command line, and what was probably meant by a wrong one. */
function parseCommandLine(args: readonly string[]): CommandLine | Outcome {
  const {
    words: [name, ...words],
    given: tokens,
  } = parseArguments(args, options);
  const given = new Map<string, string | true>();
  for (const token of tokens) {
    const { rawName, value } = token;
    const option = Object.entries(options).find(([known]) => known === token.name);
    if (!option) {
      const meant = nearest(token.name, Object.keys(options));
      return wrongUsage(undefined, `Unknown option "${rawName}"${meant ? `: did you mean --${meant}?` : ''}`);
    }
    if (option[1].type === 'string' && (value === undefined || value === ''))
      return wrongUsage(undefined, `Option "${rawName}" needs a value`);
    if (option[1].type === 'boolean' && value !== undefined)
      return wrongUsage(undefined, `Option "${rawName}" takes no value`);
    given.set(token.name, value ?? true);
  }
  return { name, words, given };
}

/** Runs the operator's tool. */
export async function runTool(args: readonly string[], env: Flags['env'], version: string): Promise<Outcome> {
  const outcome = await runLine(args, env, version);
  const { exitCode, stdout, stderr } = outcome;
  // An escaped character means the same in JSON; other forms know best where colours and lines are theirs.
  const isJson = /^[[{]/.test(stdout);
  const shown = { exitCode, stdout: isJson ? printableLines(stdout) : stdout };
  return stderr === undefined ? shown : { ...shown, stderr: printableLines(stderr) };
}

async function runLine(args: readonly string[], env: Flags['env'], version: string): Promise<Outcome> {
  const line = parseCommandLine(args);
  if ('exitCode' in line) return line;
  const { name, words, given } = line;
  if (given.has('version')) return { exitCode: 0, stdout: `sriov ${version}\n` };
  if (name === undefined)
    return given.has('help')
      ? { exitCode: 0, stdout: help(version) }
      : { exitCode: 2, stdout: '', stderr: help(version) };
  const isHelp = name === 'help';
  const topic = isHelp ? words[0] : name;
  if (topic === undefined) return { exitCode: 0, stdout: help(version) };
  const manual = Object.hasOwn(manuals, topic) ? manuals[topic] : undefined;
  if (!manual) {
    const meant = nearest(topic, [...Object.keys(manuals), 'help']);
    return wrongUsage(undefined, `Unknown command "${topic}"${meant ? `: did you mean "${meant}"?` : ''}`);
  }
  if (isHelp || given.has('help')) return { exitCode: 0, stdout: helpOn(topic, manual) };
  for (const option of given.keys())
    if (!manual.options.includes(option) && option !== 'verbose')
      return wrongUsage(name, `it takes no --${option}`);
  const device = given.get('device');
  const pci = typeof device === 'string' ? parsePci(device) : undefined;
  if (device !== undefined && pci === undefined)
    return wrongUsage(name, `--device takes the PCI address of a VF, not "${device}"`);
  const output = given.get('output');
  const run = commands[name];
  if (!run) return wrongUsage(name, 'it must be the first word');
  const screen = terminal();
  const log = new Log(given.has('verbose') ? 'debug' : 'error', 'text', 2, { command: name });
  try {
    const host = thisHost(log);
    return await run(host, words, {
      json: given.has('json'),
      dryRun: given.has('dry-run'),
      force: given.has('force'),
      device: pci,
      output: typeof output === 'string' ? output : undefined,
      env,
      style: {
        columns: screen?.columns,
        hasColour: screen !== undefined && !env['NO_COLOR'] && env['TERM'] !== 'dumb',
      },
    });
  } catch (error) {
    const { message, details } = toCniError(error);
    if (isErrno(error, Errno.EPERM, Errno.EACCES))
      return { exitCode: 1, stdout: '', stderr: `${message}: sriov must run as root\n` };
    return { exitCode: 1, stdout: '', stderr: `${message}${details ? `\n${details}` : ''}\n` };
  }
}
