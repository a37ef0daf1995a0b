import type { Socket } from './netlink.ts';
import { system } from './system.ts';

// uapi/linux/netlink.h
const NETLINK_ROUTE = 0;

/**
 * A socket by our own system calls: rtnetlink's in the static executable, and all others. Waiting stops everything, which is what a process
 * does that has nothing else to do.
 */
export function openSocket(protocol = NETLINK_ROUTE): Socket {
  const fd = system.netlinkOpen(protocol);
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
