import { readFileSync } from 'node:fs';

/** The commands of a document's "Five minutes" after the installation, with the words of its machine put in place of the document's. */
export function fiveMinutes(path: string, words: Readonly<Record<string, string>>): string[] {
  const block = /^## Five minutes\n[^]*?```\n([^]*?)```/m.exec(readFileSync(path, 'utf8'))?.[1] ?? '';
  const commands = block
    .split('\n')
    .map((line) => line.replace(/\s+# .*/, ''))
    .filter((line) => line !== '' && !line.startsWith('make '));
  return commands.map((command) =>
    Object.entries(words).reduce((text, [word, other]) => text.replaceAll(word, other), command),
  );
}
