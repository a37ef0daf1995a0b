import { describe, expect, test } from 'vitest';
import { isExclusive, listRdma, rdmaAttributes } from '../../../src/kernel/nldev.ts';
import { Netlink, type Socket } from '../../../src/kernel/netlink.ts';
import { golden, hex } from '../../support/golden.ts';

/** As the kernel numbers them (uapi/rdma/rdma_netlink.h): client 5, operations 1 and 6. */
const GET = 0x1401;
const SYS_GET = 0x1406;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;

function message(type: number, flags: number, seq: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + payload.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(seq, 8);
  return Buffer.concat([header, payload]);
}

const errno = (n: number) => {
  const bytes = Buffer.alloc(20);
  bytes.writeInt32LE(-n);
  return bytes;
};

/** A kernel that answers every request with these messages, and keeps what it was asked. */
function kernel(answer: (seq: number) => readonly Uint8Array[]): { rdma: Netlink; asked: Buffer[] } {
  const queue: Uint8Array[] = [];
  const asked: Buffer[] = [];
  const socket: Socket = {
    send: (bytes) => {
      asked.push(Buffer.from(bytes));
      queue.push(...answer(Buffer.from(bytes).readUInt32LE(8)));
    },
    wait: () => undefined,
    take: () => queue.shift(),
    setMembership: () => undefined,
    close: () => undefined,
  };
  return { rdma: new Netlink(socket, () => true), asked };
}

describe('RDMA devices by netlink', () => {
  test('moving one is what rdma(8) sends', () =>
    expect(hex(rdmaAttributes.write({ index: 0, netnsFd: 4 }))).toBe(hex(golden('rdma-dev-set-netns'))));

  test('renaming one is what rdma(8) sends', () =>
    expect(hex(rdmaAttributes.write({ index: 0, name: 'tenant0' }))).toBe(hex(golden('rdma-dev-set-name'))));

  test('a device as the kernel tells it', () => {
    const { index, name } = rdmaAttributes.read(golden('rdma-dev'));
    expect({ index, name }).toEqual({ index: 0, name: 'rxe0' });
  });

  test('all of them, in one dump, of which the answers have the type of the question', async () => {
    const { rdma, asked } = kernel((seq) => [
      message(GET, 2, seq, golden('rdma-dev')),
      message(GET, 2, seq, rdmaAttributes.write({ index: 7, name: 'mlx5_7' })),
      message(NLMSG_DONE, 2, seq, Buffer.alloc(4)),
    ]);
    expect(await listRdma(rdma)).toEqual([
      { index: 0, name: 'rxe0' },
      { index: 7, name: 'mlx5_7' },
    ]);
    expect(asked.map((bytes) => [bytes.readUInt16LE(4), bytes.readUInt16LE(6)])).toEqual([[GET, 0x305]]);
  });

  test.each([
    ['exclusive', 0, true],
    ['shared', 1, false],
  ])('the mode %s', async (_, isShared, expected) => {
    const { rdma, asked } = kernel((seq) => [
      message(SYS_GET, 0, seq, rdmaAttributes.write({ isShared })),
      message(NLMSG_ERROR, 0, seq, errno(0)),
    ]);
    expect(await isExclusive(rdma)).toBe(expected);
    expect(asked[0]?.readUInt16LE(4)).toBe(SYS_GET);
  });

  test('a kernel from before there were modes has no exclusive one', async () => {
    const { rdma } = kernel((seq) => [message(NLMSG_ERROR, 0, seq, errno(22))]);
    expect(await isExclusive(rdma)).toBe(false);
  });

  test('a kernel that cannot answer is no kernel without modes', async () => {
    const { rdma } = kernel((seq) => [message(NLMSG_ERROR, 0, seq, errno(12))]);
    await expect(isExclusive(rdma)).rejects.toThrow('Cannot read the mode of the RDMA subsystem: ENOMEM');
  });
});
