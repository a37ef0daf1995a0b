import { nowMs } from './clock.ts';
import { attrs, type Codec, CodecError, cstring, raw } from './codec.ts';
import { Errno, KernelError } from './errno.ts';
// The static executable has netlink-direct.ts here (build/static.ts).
import { openSocket } from './netlink-package.ts';

// uapi/linux/netlink.h
const NLMSG_HDRLEN = 16;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** Types below this are netlink's own. */
const NLMSG_MIN_TYPE = 16;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
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

/** What carries datagrams to the kernel and back: a netlink socket of the namespace in which it was opened. */
export interface Socket {
  /** @throws KernelError */
  send(bytes: Uint8Array): void;
  /** Waits until something is there to be taken, or another wait() has ended for that reason, or timeoutMs are over. @throws KernelError */
  wait(timeoutMs: number): Promise<void> | void;
  /** The next datagram of the kernel's. Notifications that did not fit into the socket's buffer are lost without a word. */
  take(): Uint8Array | undefined;
  /** Enters or leaves a multicast group (enum rtnetlink_groups). @throws KernelError */
  setMembership(group: number, isMember: boolean): void;
  close(): void;
}

interface Message {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly payload: Uint8Array;
}

/** The messages of a datagram (struct nlmsghdr). */
function messagesOf(datagram: Uint8Array): Message[] {
  const messages: Message[] = [];
  const data = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  for (let offset = 0; offset + NLMSG_HDRLEN <= datagram.length;) {
    const length = data.getUint32(offset, true);
    if (length < NLMSG_HDRLEN || offset + length > datagram.length) break; // the kernel sends no such thing
    messages.push({
      type: data.getUint16(offset + 4, true),
      flags: data.getUint16(offset + 6, true),
      seq: data.getUint32(offset + 8, true),
      payload: datagram.subarray(offset + NLMSG_HDRLEN, offset + length),
    });
    offset += (length + 3) & ~3;
  }
  return messages;
}

function format(type: number, flags: number, seq: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(NLMSG_HDRLEN + payload.length);
  const data = new DataView(bytes.buffer);
  data.setUint32(0, bytes.length, true);
  data.setUint16(4, type, true);
  data.setUint16(6, flags, true);
  data.setUint32(8, seq, true);
  bytes.set(payload, NLMSG_HDRLEN);
  return bytes;
}

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

/** The errno of a dump (0: it is complete) and a text: netlink_dump_done(). */
function readDone(payload: Uint8Array, flags: number): { errno: number; hint: string | undefined } {
  if (payload.length < 4) return { errno: 0, hint: undefined };
  const errno = -new DataView(payload.buffer, payload.byteOffset, 4).getInt32(0, true);
  return {
    errno,
    hint: flags & NLM_F_ACK_TLVS ? errorAttributes.read(payload.subarray(4)).message : undefined,
  };
}

/** What has come of an answer. */
interface Answer {
  /** Only requests that ask are answered by objects. */
  readonly isGet: boolean;
  /** The first object ends it: no acknowledgement comes. */
  readonly isOne: boolean;
  readonly objects: Message[];
  /** The message that ends it: an acknowledgement, a refusal, the one object, or the end of a dump. */
  last: Message | undefined;
}

/** Requests over a netlink socket, which belongs for life to the network namespace in which it was opened. */
export class Netlink {
  readonly #socket: Socket;
  readonly #asks: (type: number) => boolean;
  /**
   * Of the last request. Where it begins is chance: since Linux 6.2 a notification can carry the number of somebody else's request
   * (NLM_F_ECHO), and all who count from 1 would take it for the answer to their own.
   */
  #seq = Math.floor(Math.random() * 0xffff_fffe);
  readonly #answers = new Map<number, Answer>();
  /** Notifications of multicast groups so far. */
  #notices = 0;
  /** How many watch each group now. */
  readonly #watchers = new Map<number, number>();

  /** @param asks whether a message of this type asks, and is answered by objects */
  constructor(socket: Socket, asks: (type: number) => boolean) {
    this.#socket = socket;
    this.#asks = asks;
  }

  /**
   * Sends one request and returns the payloads of the answer; none for a mere acknowledgement.
   * @param operation what is tried, for the error: "set VF 3 of ens1f0"
   * @throws KernelError if the kernel refuses
   */
  request(operation: string, type: number, payload: Uint8Array, flags = 0): Promise<Uint8Array[]> {
    return this.#request(operation, type, payload, flags | NLM_F_ACK);
  }

  /** Like {@link request} for what is answered by one object, or refused: that the kernel need not acknowledge, too. */
  async ask(operation: string, type: number, payload: Uint8Array): Promise<Uint8Array | undefined> {
    const [object] = await this.#request(operation, type, payload, 0);
    return object;
  }

  async #request(operation: string, type: number, payload: Uint8Array, flags: number): Promise<Uint8Array[]> {
    const seq = (this.#seq = (this.#seq % 0xffff_fffe) + 1); // 0 is that of notifications
    const answer: Answer = {
      isGet: this.#asks(type),
      isOne: (flags & NLM_F_ACK) === 0,
      objects: [],
      last: undefined,
    };
    this.#answers.set(seq, answer);
    try {
      this.#socket.send(format(type, flags | NLM_F_REQUEST, seq, payload));
      const deadline = nowMs() + requestTimeoutMs;
      while (!answer.last) {
        const leftMs = deadline - nowMs();
        if (leftMs <= 0) throw new KernelError(operation, Errno.ETIMEDOUT, 'no answer from the kernel');
        await this.#pump(leftMs);
      }
    } finally {
      this.#answers.delete(seq);
    }
    const { last, objects } = answer;
    if (last.type < NLMSG_MIN_TYPE) {
      const read = last.type === NLMSG_ERROR ? readError : readDone;
      const { errno, hint } = decoded(operation, () => read(last.payload, last.flags));
      if (errno !== 0) throw new KernelError(operation, errno, hint);
    }
    // Where the change came in the last part, only the end tells.
    if ([last, ...objects].some((message) => message.flags & NLM_F_DUMP_INTR) && flags & NLM_F_DUMP)
      throw new InterruptedDump(operation);
    return objects.map((message) => message.payload);
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
    this.#join(group);
    try {
      const deadline = nowMs() + timeoutMs;
      for (;;) {
        const seen = this.#notices;
        const found = await look();
        if (found !== undefined) return found;
        while (this.#notices === seen) {
          const leftMs = deadline - nowMs();
          if (leftMs <= 0) return undefined;
          await this.#pump(leftMs);
        }
      }
    } finally {
      this.#leave(group);
    }
  }

  #join(group: number): void {
    const watchers = this.#watchers.get(group) ?? 0;
    if (watchers === 0) this.#socket.setMembership(group, true);
    this.#watchers.set(group, watchers + 1);
  }

  #leave(group: number): void {
    const watchers = this.#watchers.get(group) ?? 0;
    this.#watchers.set(group, watchers - 1);
    if (watchers === 1) this.#socket.setMembership(group, false);
  }

  /** Waits for datagrams and hands out what is in them. */
  async #pump(timeoutMs: number): Promise<void> {
    await this.#socket.wait(timeoutMs);
    for (let received; (received = this.#socket.take());) {
      for (const message of messagesOf(received)) this.#sort(message);
    }
  }

  #sort(message: Message): void {
    const { type, seq } = message;
    const answer = this.#answers.get(seq);
    if (type >= NLMSG_MIN_TYPE) {
      // A notification of what a request of ours has changed carries that one's number.
      if (!answer?.isGet) {
        this.#notices++;
        return;
      }
      answer.objects.push(message);
      if (answer.isOne) answer.last = message;
    } else if (answer && (type === NLMSG_ERROR || type === NLMSG_DONE)) {
      answer.last = message;
    }
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Links, addresses, routes. Nothing ever has to run inside a namespace for them: whoever holds the socket acts there.
 */
export class Rtnetlink extends Netlink {
  /** Opens the socket in the current namespace of the calling thread. */
  constructor(socket: Socket = openSocket()) {
    super(socket, (type) => (type & 3) === 2); // RTM_GET*
  }
}

class InterruptedDump extends KernelError {
  constructor(operation: string) {
    super(operation, Errno.EAGAIN, 'the kernel kept changing what was listed');
  }
}

/** Reads an answer. @throws KernelError if it is not what we know */
export function decoded<T>(operation: string, read: () => T, hint?: string): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    throw new KernelError(operation, Errno.EMSGSIZE, hint ?? error.message);
  }
}

/** {@link decoded} objects of one kind. */
export function decodedAll<T>(operation: string, codec: Codec<T>, payloads: readonly Uint8Array[]): T[] {
  return decoded(operation, () => payloads.map((payload) => codec.read(payload)));
}
