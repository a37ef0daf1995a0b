import type { Attachment } from '../attach/wish.ts';
import { parseJson } from '../kernel/json.ts';
import { isIfname, isLegalIfname } from '../kernel/ifname.ts';
import { quoted } from '../kernel/printable.ts';
import { CniError, Code } from './errors.ts';

export const commands = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const;
export type Command = (typeof commands)[number];

/** The CNI_* variables. */
export interface CniAttachment extends Attachment {
  readonly cniArgs: string;
  readonly cniPath: string;
}

/** A call of this program, as its environment and stdin tell it. */
export interface Request {
  readonly command: Command;
  readonly attachment: CniAttachment;
  /** The environment, for the IPAM plugin. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The network configuration as it came. */
  readonly config: Readonly<Record<string, unknown>>;
}

const identifier = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

interface Variable {
  readonly name: string;
  /** Commands that cannot do without it. */
  readonly neededBy: readonly Command[];
  readonly isValid: (value: string) => boolean;
  readonly allowed: string;
}

/** Which command needs which variable (SPEC.md 1.1.0, "Parameters" and each operation's input). */
const variables: readonly Variable[] = [
  {
    name: 'CNI_CONTAINERID',
    neededBy: ['ADD', 'DEL', 'CHECK'],
    isValid: (value) => identifier.test(value),
    allowed: 'letters, digits and _ . - after a letter or digit',
  },
  { name: 'CNI_NETNS', neededBy: ['ADD', 'CHECK'], isValid: () => true, allowed: 'a path' },
  {
    name: 'CNI_IFNAME',
    neededBy: ['ADD'],
    isValid: isIfname,
    allowed: 'at most 15 printable ASCII characters, none of / : % and blanks, and not ., .., all or default',
  },
  {
    // An attachment of any name must go away again.
    name: 'CNI_IFNAME',
    neededBy: ['DEL', 'CHECK'],
    isValid: isLegalIfname,
    allowed: 'at most 15 bytes, none of / : and white space, and not . or ..',
  },
  { name: 'CNI_PATH', neededBy: ['GC'], isValid: () => true, allowed: 'folders of plugins' },
];

/** Reads the command. @throws CniError 4 */
export function parseCommand(env: Request['env']): Command {
  const command = env['CNI_COMMAND'] ?? '';
  if (commands.includes(command as Command)) return command as Command;
  throw new CniError(
    Code.InvalidEnvironment,
    `Invalid CNI_COMMAND ${quoted(command)}: must be one of ${commands.join(', ')}`,
  );
}

/** Checks the environment of a command and parses its stdin. @throws CniError 4, 6, 7 */
export function parseRequest(command: Command, env: Request['env'], stdin: string): Request {
  const problems = variables.flatMap(({ name, neededBy, isValid, allowed }) => {
    if (!neededBy.includes(command)) return [];
    const value = env[name];
    if (!value) return [`${name} is not set`];
    return isValid(value) ? [] : [`${name} is ${quoted(value)}: must be ${allowed}`];
  });
  if (problems.length > 0) {
    throw new CniError(Code.InvalidEnvironment, `Invalid environment for ${command}: ${problems.join('; ')}`);
  }
  const attachment: CniAttachment = {
    containerId: env['CNI_CONTAINERID'] ?? '',
    netns: env['CNI_NETNS'] ?? '',
    ifname: env['CNI_IFNAME'] ?? '',
    cniArgs: env['CNI_ARGS'] ?? '',
    cniPath: env['CNI_PATH'] ?? '',
  };
  return { command, attachment, env, config: parseStdin(stdin) };
}

function parseStdin(stdin: string): Record<string, unknown> {
  let config: unknown;
  try {
    config = parseJson(stdin);
  } catch (cause) {
    const text = stdin.trim() === '' ? 'stdin is empty' : (cause as Error).message;
    throw new CniError(Code.DecodingFailure, `Cannot parse the network configuration: ${text}`, undefined, {
      cause,
    });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new CniError(
      Code.DecodingFailure,
      'Cannot parse the network configuration: it is not a JSON object',
    );
  }
  const { name } = config as { name?: unknown };
  if (typeof name !== 'string' || !identifier.test(name)) {
    const found = name === undefined ? 'it is missing' : `${quoted(name)} is not allowed`;
    throw new CniError(
      Code.InvalidConfig,
      `Invalid network configuration: "name": ${found}; must be letters, digits and _ . - after a letter or digit`,
    );
  }
  return config as Record<string, unknown>;
}

/**
 * CNI_ARGS as a map. Multus appends its own pairs to the runtime's, so keys come twice and in any
 * order: the last one counts.
 * @throws CniError 4 for a part that is no pair
 */
export function parseCniArgs(text: string): ReadonlyMap<string, string> {
  const pairs = new Map<string, string>();
  for (const part of text.split(';')) {
    if (part === '') continue;
    const at = part.indexOf('=');
    if (at < 1)
      throw new CniError(Code.InvalidEnvironment, `Invalid CNI_ARGS: ${quoted(part)} is not KEY=VALUE`);
    pairs.set(part.slice(0, at), part.slice(at + 1));
  }
  return pairs;
}
