/**
 * What moves a terminal's cursor, colours it, ends a line or turns the direction of writing: C0, DEL and C1 controls (a C1 byte alone
 * starts a sequence on some terminals), line separators, invisible and bidirectional marks, tags, and halves of characters.
 */
const dangerous =
  /[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** \u001b, and two of them for a character beyond 16 bits: what JSON reads as that character, too. */
function escape(character: string): string {
  return Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');
}

/** What nearly all text is, which is quicker to see than that nothing dangerous is in it. */
const plain = /^[ -~]*$/;

/** Text that others chose (names of pods, processes, interfaces), for a terminal or a log: on one line, and showing what it holds. */
export function printable(text: string): string {
  return plain.test(text) ? text : text.replace(dangerous, escape);
}

export function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

const maxValueLength = 200;

/** A value of a request as a message shows it. */
export function quoted(value: unknown): string {
  return shorten(JSON.stringify(value) ?? 'nothing', maxValueLength);
}
