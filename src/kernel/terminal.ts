import { openSync } from 'node:fs';
import { isatty, WriteStream } from 'node:tty';

/** The terminal that stdout is; undefined if it is none. Serial lines do not know their width. */
export function terminal(): { readonly columns: number | undefined } | undefined {
  if (!isatty(1)) return undefined;
  // Over a descriptor of its own: Node makes the terminal behind a stream non-blocking, and long output would be cut off.
  const stream = new WriteStream(openSync('/proc/self/fd/1', 'w'));
  try {
    return { columns: stream.getWindowSize()[0] || undefined };
  } finally {
    stream.destroy();
  }
}
