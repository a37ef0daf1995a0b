/** A picture of a terminal: text with ANSI colours as SVG. */

const background = '#1b1d23';
const foreground = '#d5d8de';
/** By the number of the escape sequence (SGR). */
const styles: Readonly<Record<number, string>> = {
  1: 'font-weight="bold"',
  2: 'fill-opacity="0.6"',
  31: 'fill="#ff7b72"',
  32: 'fill="#7ee787"',
  33: 'fill="#e3b341"',
  35: 'fill="#d2a8ff"',
  36: 'fill="#79c0ff"',
};

/** Size of a character, of a line, and of the frame around the text. */
const [charWidth, lineHeight, margin] = [8, 19, 14];

interface Piece {
  readonly text: string;
  readonly column: number;
  readonly style: string;
}

/** The pieces of one line: words of one style with single spaces between them. */
function pieces(line: string): Piece[] {
  const found: Piece[] = [];
  let style = '';
  let column = 0;
  for (const part of line.split(/(\x1b\[[\d;]*m)/)) {
    const sequence = /^\x1b\[(\d*)m$/.exec(part);
    if (sequence) style = styles[Number(sequence[1])] ?? '';
    else {
      // Wide gaps stand between the pieces: not every reader keeps them within one.
      for (const { 0: text, index } of part.matchAll(/\S+( \S+)*/g)) {
        found.push({ text, column: column + index, style });
      }
      column += part.length;
    }
  }
  return found;
}

function escape(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

/** What a terminal of so many columns shows. Every piece has its place and width, so that no reader's font breaks the columns. */
export function terminalSvg(text: string, columns: number): string {
  const lines = text.replaceAll('\r', '').trimEnd().split('\n');
  const [width, height] = [columns * charWidth + 2 * margin, lines.length * lineHeight + 2 * margin];
  const rows = lines.flatMap((line, row) =>
    pieces(line).map(({ text, column, style }) => {
      const x = margin + column * charWidth;
      const y = margin + (row + 0.75) * lineHeight;
      return `<text x="${x}" y="${y}" textLength="${text.length * charWidth}" ${style}>${escape(text)}</text>\n`;
    }),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<rect width="100%" height="100%" rx="8" fill="${background}"/>
<g fill="${foreground}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="13">
${rows.join('')}</g>
</svg>
`;
}
