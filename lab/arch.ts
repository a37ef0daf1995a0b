/** Processors, in Node's words. */
export type Arch = 'x64' | 'arm64';

/** Debian's words for them. */
export const debian = {
  x64: { name: 'amd64', triplet: 'x86_64-linux' },
  arm64: { name: 'arm64', triplet: 'aarch64-linux' },
} as const;

/** Understands Node's words and Debian's. */
export function architecture(word: string): Arch {
  const known = Object.keys(debian) as Arch[];
  const found = known.find((arch) => arch === word || debian[arch].name === word);
  if (found === undefined)
    throw new Error(`No such architecture "${word}": known are ${known.join(' and ')}`);
  return found;
}

/** This machine's. */
export const hostArch = architecture(process.arch);

/** The one of the lab's machine, unless a caller says otherwise: the variable ARCH chooses, else it is this machine's. */
export const labArch = architecture(process.env['ARCH'] || process.arch);
