/** Devices as devlink knows them, by generic netlink (uapi/linux/genetlink.h, uapi/linux/devlink.h). Same as `devlink dev eswitch show`. */
import { attrs, cstring, message, struct, u16, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { decoded, Netlink } from './netlink.ts';
import { openSocket } from './netlink-direct.ts';
import type { Netns } from './netns.ts';

// uapi/linux/netlink.h
const NETLINK_GENERIC = 16;

// uapi/linux/genetlink.h: families have their numbers from the kernel, but for the one that tells them.
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;

const DEVLINK_CMD_ESWITCH_GET = 29;
const DEVLINK_ESWITCH_MODE_SWITCHDEV = 1;

const genlmsghdr = struct({ cmd: u8, version: u8, reserved: u16 });
const familyMessage = message(genlmsghdr, attrs({ id: [1, u16], name: [2, cstring] }));
export const devlinkMessage = message(
  genlmsghdr,
  attrs({ busName: [1, cstring], devName: [2, cstring], eswitchMode: [25, u16] }),
);

/** What devlink calls a device: `pci/0000:01:00.0`. */
export interface DevlinkHandle {
  readonly bus: string;
  readonly device: string;
}

/**
 * Whether a device's embedded switch is in switchdev mode. Where devlink does not know the device or such a mode, it has none.
 * @param netns the namespace that the device belongs to
 * @throws KernelError
 */
export async function isSwitchdev(netns: Netns, { bus, device }: DevlinkHandle): Promise<boolean> {
  const operation = `read the mode of the switch of ${bus}/${device}`;
  const socket = netns.inside(() => openSocket(NETLINK_GENERIC));
  using generic = new Netlink(socket, () => true);
  const header = (cmd: number) => ({ cmd, version: 1, reserved: 0 });
  try {
    const [family] = await generic.request(
      operation,
      GENL_ID_CTRL,
      familyMessage.write({ header: header(CTRL_CMD_GETFAMILY), attributes: { name: 'devlink' } }),
    );
    const id = family && decoded(operation, () => familyMessage.read(family).attributes.id);
    if (id === undefined) return false;
    const [answer] = await generic.request(
      operation,
      id,
      devlinkMessage.write({
        header: header(DEVLINK_CMD_ESWITCH_GET),
        attributes: { busName: bus, devName: device },
      }),
    );
    const mode = answer && decoded(operation, () => devlinkMessage.read(answer).attributes.eswitchMode);
    return mode === DEVLINK_ESWITCH_MODE_SWITCHDEV;
  } catch (error) {
    // A kernel without devlink, a driver without, one whose switch has no modes.
    if (isErrno(error, Errno.ENOENT, Errno.ENODEV, Errno.EOPNOTSUPP)) return false;
    throw error;
  }
}
