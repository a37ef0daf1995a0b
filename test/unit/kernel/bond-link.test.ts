import { describe, expect, test } from 'vitest';
import { addBond, deleteLink, getBond, setPrimary } from '../../../src/kernel/bond-link.ts';
import { linkHeader, linkMessage } from '../../../src/kernel/link-message.ts';
import { setLink } from '../../../src/kernel/link.ts';
import { Rtnetlink, type Socket } from '../../../src/kernel/netlink.ts';
import { golden, hex } from '../../support/golden.ts';

const headerLength = 16;

/** A socket on whose other end each request is answered by these messages, and acknowledged. */
function recording(...answers: readonly Uint8Array[]) {
  const sent: { type: number; flags: number; payload: Uint8Array }[] = [];
  const queue: Uint8Array[] = [];
  const frame = (type: number, seq: number, payload: Uint8Array) => {
    const bytes = new Uint8Array(headerLength + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint16(4, type, true);
    view.setUint32(8, seq, true);
    bytes.set(payload, headerLength);
    return bytes;
  };
  const socket: Socket = {
    send: (bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const seq = view.getUint32(8, true);
      sent.push({
        type: view.getUint16(4, true),
        flags: view.getUint16(6, true),
        payload: bytes.slice(headerLength),
      });
      for (const answer of answers) queue.push(frame(16, seq, answer));
      queue.push(frame(2, seq, new Uint8Array(20))); // NLMSG_ERROR 0
    },
    wait: () => undefined,
    take: () => queue.shift(),
    setMembership: () => undefined,
    close: () => undefined,
  };
  return { rtnl: new Rtnetlink(socket), sent };
}

const create = 0x1 | 0x4 | 0x200 | 0x400; // REQUEST, ACK, EXCL, CREATE

describe('what is sent is byte for byte what iproute2 sends', () => {
  test('to make a bond', async () => {
    const { rtnl, sent } = recording();
    await addBond(rtnl, 1_073_807_616, { ifname: 'net1', mtu: 1400, miimonMs: 100 });
    expect(sent).toMatchObject([{ type: 16, flags: create }]);
    expect(hex(sent[0]?.payload ?? new Uint8Array())).toBe(hex(golden('bond-add')));
  });

  test('to name its primary slave', async () => {
    const { rtnl, sent } = recording();
    await setPrimary(rtnl, 1, 1);
    expect(sent).toMatchObject([{ type: 16 }]);
    expect(hex(sent[0]?.payload ?? new Uint8Array())).toBe(hex(golden('bond-primary')));
  });

  test('to make a link its slave', async () => {
    const { rtnl, sent } = recording();
    await setLink(rtnl, 'enslave', 1, { master: 1 });
    expect(hex(sent[0]?.payload ?? new Uint8Array())).toBe(hex(golden('bond-enslave')));
  });

  test('to delete it', async () => {
    const { rtnl, sent } = recording();
    await deleteLink(rtnl, 1);
    expect(sent).toMatchObject([{ type: 17 }]);
    expect(hex(sent[0]?.payload ?? new Uint8Array())).toBe(hex(golden('bond-delete')));
  });
});

describe('getBond()', () => {
  /** IFLA_LINKINFO of a kind, with data, in the kernel's way: a name with its zero, nested flags. */
  function answer(kind: string, data: string): Uint8Array {
    const attribute = (type: number, payload: Uint8Array) => {
      const length = 4 + payload.length;
      const bytes = new Uint8Array((length + 3) & ~3);
      new DataView(bytes.buffer).setUint16(0, length, true);
      new DataView(bytes.buffer).setUint16(2, type, true);
      bytes.set(payload, 4);
      return bytes;
    };
    const info = Buffer.concat([
      attribute(1, Buffer.from(`${kind}\0`)),
      attribute(2 | 0x8000, Buffer.from(data, 'hex')),
    ]);
    const header = linkMessage.write({ header: linkHeader(7), attributes: { ifname: 'net1' } });
    return Buffer.concat([header, attribute(18, info)]);
  }

  test('reads which slave is active, and which is to be', async () => {
    const data = '0500010001000000' + '0800020004000000' + '08000b0005000000';
    const { rtnl, sent } = recording(answer('bond', data));
    expect(await getBond(rtnl, 'net1')).toEqual({ ifindex: 7, ifname: 'net1', activeSlave: 4, primary: 5 });
    expect(sent).toMatchObject([{ type: 18 }]);
  });

  // A VLAN's attribute 1 is 2 bytes long, a bridge's 2 are others again: none of it may be read as a bond's.
  test.each([
    ['vlan', '0600010064000000' + '0c00020001000000ffffffff'],
    ['bridge', '0800010001000000'],
    ['bonding', ''],
  ])('finds none in a %s', async (kind, data) => {
    const { rtnl } = recording(answer(kind, data));
    expect(await getBond(rtnl, 7)).toBeUndefined();
  });
});
