import { printable } from '../kernel/printable.ts';

/** How to write for whoever reads it. */
export interface Style {
  /** Width of the terminal; undefined: none, or not known, and nothing is cut off. */
  readonly columns: number | undefined;
  readonly hasColour: boolean;
}

const colours = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, magenta: 35, cyan: 36 } as const;
export type Colour = keyof typeof colours;

/** A field of a table. */
export interface Cell {
  readonly text: string;
  readonly colour?: Colour | undefined;
}

/** One line of text in a colour; what others chose in it neither moves the cursor nor makes another line. */
export function paint({ hasColour }: Style, colour: Colour | undefined, text: string): string {
  const shown = printable(text);
  return hasColour && colour !== undefined && shown !== ''
    ? `\x1b[${colours[colour]}m${shown}\x1b[0m`
    : shown;
}

/** Text of several lines that are ours, with what others chose in them. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Columns aligned, two spaces apart. On a terminal the last one is cut to what is left of the width. */
export function formatTable(
  header: readonly string[],
  given: readonly (readonly Cell[])[],
  style: Style,
): string {
  const rows = given.map((row) => row.map(({ text, colour }) => ({ text: printable(text), colour })));
  const widths = header.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => row[i]?.text.length ?? 0)),
  );
  const last = header.length - 1;
  const before = widths.slice(0, last).reduce((sum, width) => sum + width + 2, 0);
  const room = style.columns === undefined ? undefined : Math.max(8, style.columns - before);
  const line = (cells: readonly Cell[]) =>
    cells
      .map(({ text, colour }, i) =>
        i === last
          ? paint(style, colour, shorten(text, room))
          : paint(style, colour, text) + ' '.repeat((widths[i] ?? 0) - text.length + 2),
      )
      .join('')
      .trimEnd();
  const titles = header.map((text) => ({ text, colour: 'bold' }) as const);
  return [titles, ...rows].map((row) => `${line(row)}\n`).join('');
}

function shorten(text: string, room: number | undefined): string {
  return room === undefined || text.length <= room ? text : `${text.slice(0, room - 1)}…`;
}

/** "12s", "5m", "3h", "20d" */
export function formatAge(since: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(since)) / 1000));
  if (Number.isNaN(seconds)) return '?';
  if (seconds < 100) return `${seconds}s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)}m`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}
