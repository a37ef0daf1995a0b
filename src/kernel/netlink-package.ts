import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import { Errno, KernelError } from './errno.ts';
import type { Socket } from './netlink.ts';
import { system } from './system.ts';

// uapi/linux/netlink.h
const NETLINK_ROUTE = 0;

function errnoIn(error: unknown): number {
  const errno = (error as { errno?: unknown } | undefined)?.errno;
  return typeof errno === 'number' ? errno : Errno.EIO;
}

/**
 * The netlink package's socket. Its layer for messages is not used: it throws the end of a dump away, which tells whether the dump is
 * complete, and its codecs are wrong for VFs (docs/netlink.md).
 */
export function openSocket(): Socket {
  const socket = new RawNetlinkSocket(NETLINK_ROUTE);
  const queue: Uint8Array[] = [];
  const waiting = new Set<() => void>();
  let refusal: KernelError | undefined;
  const wake = () => {
    for (const resolve of waiting) resolve();
    waiting.clear();
  };
  const fail = (error: unknown) => {
    refusal = new KernelError('exchange messages with the kernel over its netlink socket', errnoIn(error));
    wake();
  };
  // Nothing in here may throw: it would go through the package's C++ callback, which aborts the process.
  socket.on('message', (datagram, { port }) => {
    if (port !== 0) return; // of another process
    queue.push(datagram);
    wake();
  });
  socket.on('error', fail); // without a listener the event would throw
  socket.unref(); // a wait has its timer, which keeps the process
  try {
    system.netlinkSetUp(socket.address().port);
  } catch (error) {
    socket.close();
    throw error;
  }
  return {
    send: (bytes) => {
      socket.send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), {}, (error) => {
        if (error) fail(error);
      });
    },
    wait: async (timeoutMs) => {
      if (queue.length === 0 && !refusal) {
        let timer;
        await new Promise<void>((resolve) => {
          waiting.add(resolve);
          timer = setTimeout(resolve, timeoutMs);
        });
        clearTimeout(timer);
      }
      const error = refusal;
      refusal = undefined;
      if (error) throw error;
    },
    take: () => queue.shift(),
    setMembership: (group, isMember) => {
      if (isMember) socket.addMembership(group);
      else socket.dropMembership(group);
    },
    close: () => {
      socket.close();
      wake();
    },
  };
}
