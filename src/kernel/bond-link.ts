import { attrs, type Codec, cstring, message, raw, u32, u8 } from './codec.ts';
import { Errno, isErrno } from './errno.ts';
import { ifinfomsg, linkHeader } from './link-message.ts';
import { decoded, NLM_F_CREATE, NLM_F_EXCL, type Rtnetlink } from './netlink.ts';

// uapi/linux/rtnetlink.h
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

// uapi/linux/if_bonding.h, and BOND_FOM_ACTIVE of include/net/bond_options.h
const BOND_MODE_ACTIVEBACKUP = 1;
const BOND_FOM_ACTIVE = 1;

/** Text without a terminating zero where we write it, as iproute2 does; the kernel's own has one. */
const kindName: Codec<string> = {
  ...cstring,
  write: (text) => Uint8Array.from(text, (char) => char.charCodeAt(0)),
};

/** IFLA_BOND_* (uapi/linux/if_link.h) */
const bondData = attrs({
  mode: [1, u8],
  activeSlave: [2, u32],
  miimonMs: [3, u32],
  primary: [11, u32],
  failOverMac: [13, u8],
});

/** IFLA_INFO_*. Of another kind than a bond the data are another's. */
const linkInfo = attrs({ kind: [1, kindName], data: [2, raw] });

/** RTM_NEWLINK, RTM_GETLINK and their answer, as far as they are about bonds. */
export const bondMessage = message(
  ifinfomsg,
  attrs({ mtu: [4, u32], ifname: [3, cstring], master: [10, u32], linkInfo: [18, linkInfo] }),
);

/** A bond as the kernel reports it: indices of links are those of its namespace. */
export interface Bond {
  readonly ifindex: number;
  readonly ifname: string;
  readonly activeSlave: number | undefined;
  readonly primary: number | undefined;
}

/**
 * Makes a bond of mode active-backup with fail_over_mac active, down and without slaves. Same as `ip link add IFNAME index N mtu MTU type
 * bond mode active-backup miimon MS fail_over_mac active`.
 * @throws KernelError
 */
export async function addBond(
  rtnl: Rtnetlink,
  ifindex: number,
  { ifname, mtu, miimonMs }: { readonly ifname: string; readonly mtu: number; readonly miimonMs: number },
): Promise<void> {
  const mode = { mode: BOND_MODE_ACTIVEBACKUP, miimonMs, failOverMac: BOND_FOM_ACTIVE };
  const info = { kind: 'bond', data: bondData.write(mode) };
  const request = bondMessage.write({
    header: linkHeader(ifindex),
    attributes: { mtu, ifname, linkInfo: info },
  });
  await rtnl.request(`make the bond ${ifname}`, RTM_NEWLINK, request, NLM_F_CREATE | NLM_F_EXCL);
}

/** Names the slave that is active whenever it can be. */
export async function setPrimary(rtnl: Rtnetlink, bond: number, primary: number): Promise<void> {
  const info = { kind: 'bond', data: bondData.write({ primary }) };
  const request = bondMessage.write({ header: linkHeader(bond), attributes: { linkInfo: info } });
  await rtnl.request(`set the primary slave of bond ${bond}`, RTM_NEWLINK, request);
}

/** The link of that name or index, if it is a bond. */
export async function getBond(rtnl: Rtnetlink, link: string | number): Promise<Bond | undefined> {
  const operation = `read link ${link}`;
  const request = bondMessage.write(
    typeof link === 'number'
      ? { header: linkHeader(link), attributes: {} }
      : { header: linkHeader(0), attributes: { ifname: link } },
  );
  try {
    const [payload] = await rtnl.request(operation, RTM_GETLINK, request);
    return payload && decoded(operation, () => toBond(payload));
  } catch (error) {
    if (isErrno(error, Errno.ENODEV)) return undefined;
    throw error;
  }
}

function toBond(payload: Uint8Array): Bond | undefined {
  const { header, attributes } = bondMessage.read(payload);
  const { kind, data } = attributes.linkInfo ?? {};
  if (kind !== 'bond') return undefined;
  const { activeSlave, primary } = data ? bondData.read(data) : {};
  return { ifindex: header.index, ifname: attributes.ifname ?? '', activeSlave, primary };
}

/** Deletes a link that was made; a bond lets its slaves go first. One that is gone already is no error. */
export async function deleteLink(rtnl: Rtnetlink, ifindex: number): Promise<void> {
  const request = bondMessage.write({ header: linkHeader(ifindex), attributes: {} });
  try {
    await rtnl.request(`delete link ${ifindex}`, RTM_DELLINK, request);
  } catch (error) {
    if (!isErrno(error, Errno.ENODEV)) throw error;
  }
}
