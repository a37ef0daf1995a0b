/**
 * RDMA devices by netlink: the client "nldev" of the RDMA subsystem (uapi/rdma/rdma_netlink.h; drivers/infiniband/core/nldev.c, device.c).
 * Same as `rdma dev` and `rdma system` of iproute2.
 */
import { attrs, cstring, u32, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { decoded, decodedAll, Netlink } from './netlink.ts';
import { openSocket } from './netlink-direct.ts';
import type { Netns } from './netns.ts';

// uapi/linux/netlink.h
const NETLINK_RDMA = 20;

// RDMA_NL_GET_TYPE(client, operation)
const RDMA_NL_NLDEV = 5;
const messageType = (operation: number) => (RDMA_NL_NLDEV << 10) | operation;
const RDMA_NLDEV_CMD_GET = messageType(1);
const RDMA_NLDEV_CMD_SET = messageType(2);
const RDMA_NLDEV_CMD_SYS_GET = messageType(6);

/** enum rdma_nldev_attr */
export const rdmaAttributes = attrs({
  index: [1, u32],
  name: [2, cstring],
  /** 1: all namespaces share all devices */
  isShared: [66, u8],
  netnsFd: [68, u32],
});

/** An RDMA device as its namespace sees it. */
export interface RdmaDevice {
  /** Its own until it is gone, wherever it is moved; given to no other device before 2^31 have been made. */
  readonly index: number;
  /** Unique on the machine, over all namespaces; whoever may configure the network can change it. */
  readonly name: string;
}

/**
 * The RDMA subsystem as one network namespace sees it. Here a socket of the namespace is not enough: the kernel looks a device up in the
 * socket's namespace, but takes it from the calling thread's (rdma_dev_change_netns() with current->nsproxy). It answers while it is called,
 * so the thread is in the namespace for that long.
 */
export class RdmaNetlink extends Netlink {
  constructor(netns: Netns) {
    const socket = netns.inside(() => openSocket(NETLINK_RDMA));
    super({ ...socket, send: (bytes) => netns.inside(() => socket.send(bytes)) }, () => true);
  }
}

/** Whether each network namespace has RDMA devices of its own; else all see all of them, and none can be moved. */
export async function isExclusive(rdma: RdmaNetlink): Promise<boolean> {
  const operation = 'read the mode of the RDMA subsystem';
  try {
    const [payload] = await rdma.request(operation, RDMA_NLDEV_CMD_SYS_GET, new Uint8Array());
    return payload !== undefined && decoded(operation, () => rdmaAttributes.read(payload)).isShared === 0;
  } catch (error) {
    // Before Linux 5.2 there is no such request, and nothing but sharing.
    if (isErrno(error, Errno.EINVAL, Errno.EOPNOTSUPP)) return false;
    throw error;
  }
}

/** The devices that the namespace sees. */
export async function listRdma(rdma: RdmaNetlink): Promise<RdmaDevice[]> {
  const payloads = await rdma.dump('list RDMA devices', RDMA_NLDEV_CMD_GET, new Uint8Array());
  const all = decodedAll('list RDMA devices', rdmaAttributes, payloads);
  return all.flatMap(({ index, name }) =>
    index === undefined || name === undefined ? [] : [{ index, name }],
  );
}

/** Moves a device into another namespace. Whoever has it open loses it. @throws KernelError */
export async function moveRdma(rdma: RdmaNetlink, { index, name }: RdmaDevice, to: Netns): Promise<void> {
  const payload = rdmaAttributes.write({ index, netnsFd: to.fd });
  await rdma.request(`move RDMA device ${name} into "${to.path}"`, RDMA_NLDEV_CMD_SET, payload);
}

/** @throws KernelError, EEXIST if another device of the machine has the name */
export async function renameRdma(
  rdma: RdmaNetlink,
  { index, name }: RdmaDevice,
  newName: string,
): Promise<void> {
  const payload = rdmaAttributes.write({ index, name: newName });
  await rdma.request(`rename RDMA device ${name} to ${newName}`, RDMA_NLDEV_CMD_SET, payload);
}
