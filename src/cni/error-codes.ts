import { Failure, type FailureKind, IpamRefused } from '../attach/failure.ts';
import { CodecError } from '../kernel/codec.ts';
import { Errno, FileError, isErrno, KernelError, NotANetns } from '../kernel/errno.ts';
import { PathRefused } from '../kernel/files.ts';
import { InputRefused } from '../kernel/json.ts';
import { NotUsable } from '../vf/inventory.ts';
import { SettingRefused, Unsupported } from '../vf/settings.ts';
import { CniError, Code } from './errors.ts';

/** Answers of a driver that mean "this setting is not for this card or value", whatever the circumstances. */
const neverErrnos: number[] = [
  Errno.EOPNOTSUPP,
  Errno.ENOTSUPP,
  Errno.EPROTONOSUPPORT,
  Errno.EINVAL,
  Errno.ERANGE,
];
const busyErrnos: number[] = [Errno.EBUSY, Errno.EAGAIN];

const codes: Readonly<Record<FailureKind, number>> = {
  'bad wish': Code.InvalidConfig,
  'netns gone': Code.UnknownContainer,
  'host netns': Code.InvalidNetns,
  taken: Code.InvalidEnvironment,
  busy: Code.TryAgainLater,
  incomplete: Code.RollbackIncomplete,
  'no IPAM plugin': Code.InvalidEnvironment,
  'IPAM failed': Code.IoFailure,
};

/**
 * Codes that mean the same for every plugin: the specification's and libcni's 8. Not 3, upon which a
 * runtime sends no DEL. Any other is the IPAM plugin's own (100 and up), or says nothing (999 is what
 * libcni makes of any error).
 */
const commonCodes: readonly number[] = [
  Code.IncompatibleVersion,
  Code.UnsupportedField,
  Code.InvalidEnvironment,
  Code.IoFailure,
  Code.DecodingFailure,
  Code.InvalidConfig,
  Code.InvalidNetns,
  Code.TryAgainLater,
  Code.NotAvailable,
  Code.MayLoseConnectivity,
];

function isCommon({ code }: IpamRefused): boolean {
  return commonCodes.includes(code);
}

function codeOf(error: unknown): number {
  if (error instanceof IpamRefused && isCommon(error)) return error.code;
  if (error instanceof Failure) return codes[error.kind];
  if (error instanceof SettingRefused) {
    if (neverErrnos.includes(error.errno)) return Code.UnsupportedField;
    return busyErrnos.includes(error.errno) ? Code.TryAgainLater : Code.KernelRefused;
  }
  if (error instanceof NotANetns) return Code.InvalidNetns;
  if (error instanceof PathRefused) return Code.InvalidConfig;
  if (error instanceof NotUsable) return Code.VfNotUsable;
  if (error instanceof Unsupported) return Code.UnsupportedField;
  if (error instanceof InputRefused) return Code.DecodingFailure;
  if (error instanceof CodecError) return Code.KernelRefused;
  if (error instanceof FileError) return Code.IoFailure;
  if (error instanceof KernelError)
    return isErrno(error, ...busyErrnos) ? Code.TryAgainLater : Code.KernelRefused;
  return Code.Internal;
}

/**
 * Any error in the form that a runtime gets. What nobody foresaw is a bug of ours: code 999, with its
 * stack for the log only.
 */
export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  const message =
    error instanceof IpamRefused && !isCommon(error) ? `${text} (its code ${error.code})` : text;
  const details = error instanceof Failure ? error.details : undefined;
  return new CniError(code, message, details, { cause: error });
}
