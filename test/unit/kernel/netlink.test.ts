import { describe, expect, test } from 'vitest';
import { Errno, KernelError } from '../../../src/kernel/errno.ts';
import { linkMessage } from '../../../src/kernel/link-message.ts';
import { getLinkWithVfs } from '../../../src/kernel/link.ts';
import { Rtnetlink, type Socket } from '../../../src/kernel/netlink.ts';

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_MULTI = 2;
const NLM_F_DUMP_INTR = 0x10;

function message(
  type: number,
  flags: number,
  seq: number,
  payload: Uint8Array | readonly number[] = [],
): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + payload.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(seq, 8);
  return Buffer.concat([header, Buffer.from(payload), Buffer.alloc(-payload.length & 3)]);
}

function number(n: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(n);
  return bytes;
}

const link = (index: number) =>
  linkMessage.write({
    header: { family: 0, pad: 0, type: 0, index, flags: 0, change: 0 },
    attributes: { ifname: `l${index}` },
  });

/** What a kernel says that cannot be made to say it: answers to one request after the other, from its sequence number. */
function kernel(...answers: ((seq: number) => readonly Uint8Array[])[]): {
  rtnl: Rtnetlink;
  asked: () => number;
} {
  const queue: Uint8Array[] = [];
  let asked = 0;
  const socket: Socket = {
    send: (bytes) => queue.push(...(answers[asked++]?.(Buffer.from(bytes).readUInt32LE(8)) ?? [])),
    wait: () => undefined,
    take: () => queue.shift(),
    setMembership: () => undefined,
    close: () => undefined,
  };
  return { rtnl: new Rtnetlink(socket), asked: () => asked };
}

const complete = (seq: number) => [
  message(RTM_NEWLINK, NLM_F_MULTI, seq, link(1)),
  message(NLMSG_DONE, NLM_F_MULTI, seq, number(0)),
];
const dump = (rtnl: Rtnetlink) => rtnl.dump('list links', RTM_GETLINK, link(0));

describe('a dump', () => {
  test('is all of its parts', async () => {
    const { rtnl } = kernel((seq) => [
      Buffer.concat([
        message(RTM_NEWLINK, NLM_F_MULTI, seq, link(1)),
        message(RTM_NEWLINK, NLM_F_MULTI, seq, link(2)),
      ]),
      ...complete(seq),
    ]);
    expect(await dump(rtnl)).toHaveLength(3);
  });

  test.each([
    ['a part', NLM_F_DUMP_INTR, 0],
    ['its end', 0, NLM_F_DUMP_INTR],
  ])('that %s says was interrupted is asked for again', async (_, partFlags, endFlags) => {
    const interrupted = (seq: number) => [
      message(RTM_NEWLINK, NLM_F_MULTI | partFlags, seq, link(1)),
      message(NLMSG_DONE, NLM_F_MULTI | endFlags, seq, number(0)),
    ];
    const { rtnl, asked } = kernel(interrupted, interrupted, complete);
    expect(await dump(rtnl)).toHaveLength(1);
    expect(asked()).toBe(3);
  });

  test('that never ends well is an error', async () => {
    const interrupted = (seq: number) => [message(NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR, seq, number(0))];
    const { rtnl, asked } = kernel(...Array.from({ length: 9 }, () => interrupted));
    await expect(dump(rtnl)).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(asked()).toBe(5);
  });

  test('whose end has an errno has failed', async () => {
    const { rtnl } = kernel((seq) => [
      message(RTM_NEWLINK, NLM_F_MULTI, seq, link(1)),
      message(NLMSG_DONE, NLM_F_MULTI, seq, number(-Errno.ENOMEM)),
    ]);
    await expect(dump(rtnl)).rejects.toMatchObject({ operation: 'list links', errno: Errno.ENOMEM });
  });

  test('takes no part of another answer', async () => {
    const { rtnl } = kernel((seq) => [
      message(RTM_NEWLINK, NLM_F_MULTI, seq + 7, link(8)),
      message(NLMSG_DONE, NLM_F_MULTI, seq + 7, number(0)),
      message(RTM_NEWLINK, 0, 0, link(9)),
      ...complete(seq),
    ]);
    expect(await dump(rtnl)).toHaveLength(1);
  });
});

test('a change is answered by its acknowledgement, not by the notification of it that carries its number', async () => {
  const { rtnl } = kernel((seq) => [
    message(RTM_NEWLINK, 0, seq, link(1)),
    message(NLMSG_ERROR, 0, seq, Buffer.concat([number(-Errno.EBUSY), Buffer.alloc(16)])),
  ]);
  await expect(rtnl.request('set link 1', RTM_SETLINK, link(1))).rejects.toMatchObject({ code: 'EBUSY' });
});

test('a watch looks again after each notification', async () => {
  const notification: readonly Uint8Array[] = [message(RTM_NEWLINK, 0, 0, link(1))];
  const queue: Uint8Array[][] = [[...notification], [...notification]];
  let now: Uint8Array[] = [];
  const rtnl = new Rtnetlink({
    send: () => undefined,
    wait: () => void (now = queue.shift() ?? []),
    take: () => now.shift(),
    setMembership: () => undefined,
    close: () => undefined,
  });
  let looks = 0;
  expect(await rtnl.watch(1, 10_000, () => (++looks === 3 ? 'found' : undefined))).toBe('found');
  expect(queue).toEqual([]);
});

// rtnl_vfinfo_size() counts 296 bytes a VF with statistics, and nla_nest_end() keeps the low 16 bits of the length of all.
test('a list of VFs that an old kernel could not tell is an error that says why', async () => {
  const body = Buffer.alloc(256 * 296);
  for (let vf = 0; vf < 256; vf++) {
    body.writeUInt16LE(296, vf * 296);
    body.writeUInt16LE(1, vf * 296 + 2); // IFLA_VF_INFO
    body.writeUInt16LE(292, vf * 296 + 4);
    body.writeUInt16LE(99, vf * 296 + 6);
  }
  const list = Buffer.alloc(4);
  list.writeUInt16LE((4 + body.length) & 0xffff, 0);
  list.writeUInt16LE(22, 2); // IFLA_VFINFO_LIST
  const { rtnl } = kernel((seq) => [
    message(RTM_NEWLINK, 0, seq, Buffer.concat([Buffer.from(link(1)), list, body])),
    message(NLMSG_ERROR, 0, seq, Buffer.alloc(20)),
  ]);
  const failure: unknown = await getLinkWithVfs(rtnl, 'eth0').catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(KernelError);
  expect((failure as Error).message).toBe(
    'Cannot read VF settings of eth0: EMSGSIZE (too many VFs for one answer: before Linux 6.5 the kernel can tell of 221 at most)',
  );
});
