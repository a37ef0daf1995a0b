import type { Socket } from './netlink.ts';
import { system } from './system.ts';

/**
 * A socket by our own system calls, for the static executable. Waiting stops everything, which is what a process does that has nothing
 * else to do.
 */
export function openSocket(): Socket {
  const fd = system.netlinkOpen();
  const queue: Uint8Array[] = [];
  return {
    send: (bytes) => system.netlinkSend(fd, bytes),
    wait: (timeoutMs) => {
      if (queue.length > 0) return;
      const datagram = system.netlinkReceive(fd, timeoutMs);
      if (datagram) queue.push(datagram);
    },
    take: () => queue.shift(),
    setMembership: (group, isMember) => system.netlinkMembership(fd, group, isMember ? 1 : 0),
    close: () => system.close(fd),
  };
}
