/** Configurations, results and claims have ten levels. Libraries walk them recursively, so their depth must be bounded. */
const maxDepth = 100;

/** Text from outside that is too long, nested too deeply, or no JSON. */
export class InputRefused extends Error {
  override readonly name = 'InputRefused';
}

/** Parses JSON from outside. @throws InputRefused, with line and column */
export function parseJson(text: string): unknown {
  if (isTooDeep(text)) throw new InputRefused(`it is nested deeper than ${maxDepth} levels`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputRefused(fault(text), { cause });
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The JSON object that a text is; undefined for anything else. */
export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isTooDeep(text: string): boolean {
  // Nearly every text has fewer brackets in all than there may be levels. The engine counts them at once, strings included.
  const count = (bracket: string) => text.split(bracket, maxDepth + 2).length - 1;
  if (count('{') + count('[') <= maxDepth) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') i = endOfString(text, i);
    else if (char === '}' || char === ']') depth--;
    else if ((char === '{' || char === '[') && ++depth > maxDepth) return true;
  }
  return false;
}

/** Where the quote is that ends the string which begins at a place; the end of the text if there is none. */
function endOfString(text: string, start: number): number {
  for (let end = start; ;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}

const space = /[ \t\n\r]*/y;
const literal = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.+-])/y;
const stringEnd = /\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})|[\0-\x1f]/;

/**
 * Where a text stops being JSON, in words of our own: those of JavaScript engines differ, and some name a token without its place.
 * Only called with text that JSON.parse() refuses.
 */
function fault(text: string): string {
  const open: string[] = [];
  let expected: readonly string[] = ['a value'];
  let at = 0;
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at += found[0].length;
    return found !== null;
  };
  const afterValue = () => {
    const closing = open.at(-1);
    expected = closing === undefined ? ['the end'] : ['","', `"${closing}"`];
  };
  for (;;) {
    skip(space);
    const char = text[at];
    const wants = (what: string) => expected.includes(what);
    if (char !== undefined && wants(`"${char}"`) && '}]'.includes(char)) {
      at++;
      open.pop();
      afterValue();
    } else if (char === ',' && wants('","')) {
      at++;
      expected = [open.at(-1) === '}' ? 'a key' : 'a value'];
    } else if (char === ':' && wants('":"')) {
      at++;
      expected = ['a value'];
    } else if (char === '"' && (wants('a key') || wants('a value'))) {
      const end = endOfString(text, at);
      const wrong = stringEnd.exec(text.slice(at + 1, end));
      if (wrong) return `${place(text, at + 1 + wrong.index)}: ${shown(wrong[0])} is not allowed in a string`;
      if (end === text.length) return `${place(text, at)}: the string does not end`;
      at = end + 1;
      if (wants('a key')) expected = ['":"'];
      else afterValue();
    } else if ((char === '{' || char === '[') && wants('a value')) {
      at++;
      open.push(char === '{' ? '}' : ']');
      expected = char === '{' ? ['a key', '"}"'] : ['a value', '"]"'];
    } else if (wants('a value') && skip(literal)) {
      afterValue();
    } else {
      const found =
        char === undefined ? 'the end' : shown(/^(?:[\w.+-]+|[^])/u.exec(text.slice(at, at + 20))?.[0] ?? '');
      return `${place(text, at)}: expected ${expected.join(' or ')}, found ${found}`;
    }
  }
}

function shown(text: string): string {
  return JSON.stringify(text);
}

function place(text: string, at: number): string {
  const before = text.slice(0, at).split('\n');
  return `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`;
}
