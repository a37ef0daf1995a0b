/** An option as it was given: "--device=X", "-v". */
export interface GivenOption {
  /** Without dashes, and long where it was a known short one. */
  readonly name: string;
  /** As it was written, without its value. */
  readonly rawName: string;
  readonly value: string | undefined;
}

export type KnownOptions = Readonly<
  Record<string, { readonly type: 'string' | 'boolean'; readonly short?: string }>
>;

/**
 * Takes a command line apart: "--name", "--name=value", "--name value", "-n value" and "-nvalue" for those that have a value, "-ab" for "-a -b", and
 * only words behind "--". What is unknown, or has a value too many or few, is for the caller to refuse.
 */
export function parseArguments(
  args: readonly string[],
  options: KnownOptions,
): { readonly words: readonly string[]; readonly given: readonly GivenOption[] } {
  const words: string[] = [];
  const given: GivenOption[] = [];
  const rest = [...args];
  const hasValue = (name: string) => Object.hasOwn(options, name) && options[name]?.type === 'string';
  const longName = (letter: string) =>
    Object.entries(options).find(([, { short }]) => short === letter)?.[0] ?? letter;
  for (let arg; (arg = rest.shift()) !== undefined;) {
    const inline = /^--([^=]+)=(.*)$/s.exec(arg);
    if (arg === '--') {
      words.push(...rest.splice(0));
    } else if (inline) {
      given.push({ name: inline[1] as string, rawName: `--${inline[1]}`, value: inline[2] });
    } else if (arg.startsWith('--')) {
      const name = arg.slice(2);
      given.push({ name, rawName: arg, value: hasValue(name) ? rest.shift() : undefined });
    } else if (arg.startsWith('-') && arg !== '-') {
      for (let letters = arg.slice(1); letters !== '';) {
        const letter = letters[0] as string;
        const name = longName(letter);
        letters = letters.slice(1);
        const value = hasValue(name) ? letters || rest.shift() : undefined;
        given.push({ name, rawName: `-${letter}`, value });
        if (value !== undefined) break;
      }
    } else {
      words.push(arg);
    }
  }
  return { words, given };
}
