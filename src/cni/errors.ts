import { CannotLoadAddon } from '../kernel/addon.ts';
import { FileError } from '../kernel/errno.ts';
import { InputRefused } from '../kernel/json.ts';
import { shorten } from '../kernel/printable.ts';

/**
 * Error codes: 1 to 99 are the specification's (8 and 999 are libcni's), 100 and up are ours.
 * README.md explains them.
 */
export const Code = {
  IncompatibleVersion: 1,
  UnsupportedField: 2,
  UnknownContainer: 3,
  InvalidEnvironment: 4,
  IoFailure: 5,
  DecodingFailure: 6,
  InvalidConfig: 7,
  InvalidNetns: 8,
  TryAgainLater: 11,
  NotAvailable: 50,
  MayLoseConnectivity: 51,
  VfNotUsable: 100,
  KernelRefused: 101,
  RollbackIncomplete: 102,
  Drifted: 103,
  Internal: 999,
} as const;

/** Runtimes put errors into events and their own logs, again at each try: no error is longer than this. */
const maxTextLength = 4096;

/** The lines of `details` that the message does not have: libcni's callers print both behind each other. */
function lacking(details: string | undefined, message: string): string | undefined {
  const lines = details?.split('\n').filter((line) => !message.includes(line)) ?? [];
  return lines.length > 0 ? shorten(lines.join('\n'), maxTextLength) : undefined;
}

/** An error in the form that a runtime gets. */
export class CniError extends Error {
  override readonly name = 'CniError';
  readonly code: number;
  /** What the message has no room for; never the message once more. */
  readonly details: string | undefined;

  constructor(code: number, message: string, details?: string, options?: ErrorOptions) {
    super(shorten(message, maxTextLength), options);
    this.code = code;
    this.details = lacking(details, message);
  }
}

/**
 * What comes from loading the program and from stdin, before anything could make a {@link CniError} of
 * it.
 */
function toPlain(error: unknown): { code: number; message: string; details?: string | undefined } {
  if (error instanceof CniError) return error;
  if (error instanceof InputRefused) return { code: Code.DecodingFailure, message: error.message };
  if (error instanceof CannotLoadAddon || error instanceof FileError)
    return { code: Code.IoFailure, message: error.message };
  return { code: Code.Internal, message: String(error) };
}

/** The error as JSON for stdout. What nobody foresaw is a bug of ours. */
export function formatError(error: unknown, cniVersion: string): string {
  const { code, message, details } = toPlain(error);
  return JSON.stringify({ cniVersion, code, msg: message, details });
}
