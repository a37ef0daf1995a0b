import { createNetlink, type NetlinkSocket as PackageSocket } from 'netlink/dist/netlink.js';
import { nowMs } from './clock.ts';
import { cstring, attrs, raw } from './codec.ts';
import { Errno, KernelError } from './errno.ts';
import { native } from './native.ts';

// uapi/linux/netlink.h
const NETLINK_ROUTE = 0;
const NLMSG_ERROR = 2;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;

/**
 * The kernel answers inside sendmsg(), so its answer is there as soon as the request is sent: only a lost message could make us wait
 * this long.
 */
const requestTimeoutMs = 10_000;

/** A dump that the kernel marks as interrupted (objects changed meanwhile) is asked for again so many times. */
const dumpTries = 5;

/** enum nlmsgerr_attrs; offset, cookie and policy are of no use to us. */
const errorAttributes = attrs({ message: [1, cstring], offset: [2, raw] });

/** The errno (0: acknowledged) and text of an NLMSG_ERROR payload: `struct nlmsgerr`, the request's echo, then attributes. */
export function readError(payload: Uint8Array, flags: number): { errno: number; hint: string | undefined } {
  const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const errno = -data.getInt32(0, true);
  if (!(flags & NLM_F_ACK_TLVS)) return { errno, hint: undefined };
  const echoed = flags & NLM_F_CAPPED ? 16 : (data.getUint32(4, true) + 3) & ~3;
  return { errno, hint: errorAttributes.read(payload.subarray(4 + echoed)).message };
}

/**
 * An rtnetlink socket. It belongs for life to the network namespace in which it was opened, so nothing ever has to run inside a
 * namespace: whoever holds the socket acts there.
 *
 * The netlink package carries the socket, sequence numbers and the parts of a dump; its message layer is wrong for VFs
 * (docs/netlink.md), so payloads are bytes here and codecs are ours.
 */
export class Rtnetlink {
  readonly #socket: PackageSocket;

  /** Opens the socket in the current namespace of the calling thread. */
  constructor() {
    this.#socket = createNetlink(NETLINK_ROUTE);
    // An 'error' event without a listener would throw inside the package's C++ callback, which aborts the process. A request that gets
    // no answer fails by its timeout.
    this.#socket.on('error', () => undefined);
    native.extendedAck(this.#socket.address().port);
  }

  /**
   * Sends one request and returns the payloads of the answer; none for a mere acknowledgement.
   * @param operation what is tried, for the error: "set VF 3 of ens1f0"
   * @throws KernelError if the kernel refuses
   */
  async request(operation: string, type: number, payload: Uint8Array, flags = 0): Promise<Uint8Array[]> {
    const [replies] = await this.#socket
      .request(type, Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength), {
        flags,
        timeout: requestTimeoutMs,
        checkError: false,
      })
      .catch(() => {
        throw new KernelError(operation, Errno.ETIMEDOUT, 'no answer from the kernel');
      });
    for (const reply of replies) {
      if (reply.type !== NLMSG_ERROR) continue;
      const { errno, hint } = readError(reply.data, reply.flags);
      if (errno !== 0) throw new KernelError(operation, errno, hint);
      return [];
    }
    if (flags & NLM_F_DUMP && replies.some((reply) => reply.flags & NLM_F_DUMP_INTR))
      throw new InterruptedDump(operation);
    return replies.map((reply) => reply.data);
  }

  /** All objects of a kind. */
  async dump(operation: string, type: number, payload: Uint8Array): Promise<Uint8Array[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.request(operation, type, payload, NLM_F_DUMP);
      } catch (error) {
        if (!(error instanceof InterruptedDump) || tries === dumpTries) throw error;
      }
    }
  }

  /**
   * Looks at something, and again after each notification of a multicast group (enum rtnetlink_groups), until look() finds it.
   * @returns undefined if it did not for timeoutMs
   */
  async watch<T>(
    group: number,
    timeoutMs: number,
    look: () => Promise<T | undefined> | T | undefined,
  ): Promise<T | undefined> {
    let changed = () => {};
    const notice = (messages: readonly { type: number }[]) => {
      if (messages.some(({ type }) => type !== NLMSG_ERROR)) changed(); // acknowledgements come this way, too
    };
    const lost = () => changed();
    this.#socket.addMembership(group);
    this.#socket.on('message', notice);
    this.#socket.on('error', lost);
    this.#socket.ref();
    try {
      const deadline = nowMs() + timeoutMs;
      for (;;) {
        const change = new Promise<void>((resolve) => (changed = resolve));
        const found = await look();
        const leftMs = deadline - nowMs();
        if (found !== undefined || leftMs <= 0) return found;
        let timer;
        await Promise.race([change, new Promise((resolve) => (timer = setTimeout(resolve, leftMs)))]);
        clearTimeout(timer);
      }
    } finally {
      this.#socket.unref();
      this.#socket.off('message', notice);
      this.#socket.off('error', lost);
      this.#socket.dropMembership(group);
    }
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class InterruptedDump extends KernelError {
  constructor(operation: string) {
    super(operation, Errno.EAGAIN, 'the kernel kept changing what was listed');
  }
}
