import { Errno, isErrno } from '../kernel/errno.ts';
import { printable, shorten } from '../kernel/printable.ts';

/**
 * What can stop an attachment or keep it from being undone, in terms that no front door owns: each door has one table from kind to its own
 * form. What a device or the kernel cannot do has classes of its own: NotUsable, Unsupported, KernelError.
 *
 * - `bad wish`: what is asked for makes no sense, whatever the machine is like
 * - `netns gone`, `host netns`: the path leads to no pod's namespace
 * - `taken`: the attachment, or its interface name in the pod, exists already
 * - `busy`: somebody has the device now; trying again later helps
 * - `incomplete`: not everything could be undone; what is left is known, and is tried again
 * - `no IPAM plugin`, `IPAM failed`: it is not there; it ended badly
 */
export type FailureKind =
  | 'bad wish'
  | 'netns gone'
  | 'host netns'
  | 'taken'
  | 'busy'
  | 'incomplete'
  | 'no IPAM plugin'
  | 'IPAM failed';

/** A failure that a front door passes on in its own form. */
export class Failure extends Error {
  override readonly name: string = 'Failure';
  readonly kind: FailureKind;
  /** What the message has no room for; never the message once more. */
  readonly details: string | undefined;

  constructor(kind: FailureKind, message: string, details?: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.details = details;
  }
}

/** A VF that is claimed, and not stale. */
export class Claimed extends Failure {
  override readonly name = 'Claimed';
  /** Its pod is gone, and the kernel may just be giving the VF back. */
  readonly isGoing: boolean;

  constructor(message: string, isGoing: boolean) {
    super('busy', message);
    this.isGoing = isGoing;
  }
}

/** Somebody still holds the VF: nothing may be given back, or a tenant would sit on the untagged network. */
export class StillHeld extends Failure {
  override readonly name = 'StillHeld';

  constructor(message: string) {
    super('busy', message);
  }
}

/** The IPAM plugin's own word, with its own code, that it could not do what was asked. */
export class IpamRefused extends Failure {
  override readonly name = 'IpamRefused';
  readonly code: number;

  constructor(code: number, message: string, details?: string) {
    super('IPAM failed', message, details);
    this.code = code;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const maxLineLength = 4096;

/** An error for a user's terminal, where Docker and Podman print it in one piece: one line, nothing that a terminal obeys. */
export function toLine(error: unknown): string {
  const isListed = error instanceof Failure && error.kind === 'busy' && error.details !== undefined;
  const text = isListed ? `${error.message} (${error.details})` : messageOf(error);
  return shorten(printable(text.replaceAll('\n', '; ')), maxLineLength);
}

/** Whether trying again later is enough. */
export function isBusy(error: unknown): boolean {
  return (error instanceof Failure && error.kind === 'busy') || isErrno(error, Errno.EAGAIN, Errno.EBUSY);
}
