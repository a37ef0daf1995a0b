import { Errno, isErrno } from './errno.ts';
import { InputRefused } from './json.ts';
import { system } from './system.ts';

/**
 * A network configuration with its prevResult has some kilobytes, and the longest, for GC, lists 120 bytes per attachment of the node. What is
 * on stdin goes into the claim, and every DEL may have to read every claim.
 */
const maxStdinBytes = 1024 * 1024;

/** Everything on stdin. @throws InputRefused if it is too long; FileError */
export function readStdin(): string {
  try {
    return system.readText(0, maxStdinBytes);
  } catch (error) {
    if (!isErrno(error, Errno.EFBIG)) throw error;
    throw new InputRefused(`Cannot parse stdin: it is longer than ${maxStdinBytes} bytes`);
  }
}

/** Writes all of a text to stdout or stderr, waiting for a reader that is slow. @throws FileError */
export function writeStream(stream: 'stdout' | 'stderr', text: string): void {
  system.writeText(stream === 'stdout' ? 1 : 2, text);
}

/** Tells on stderr, if somebody listens there. */
export function complain(line: string): void {
  try {
    writeStream('stderr', `${line}\n`);
  } catch {
    // nobody does
  }
}

/** Ends the process at once: everything is written. */
export function exit(code: number): never {
  return system.exit(code);
}
