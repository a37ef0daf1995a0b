/**
 * Codecs for netlink payloads. A codec is a value; structs and attribute sets are tables of codecs, and TypeScript infers the
 * type of the decoded object from the table. Byte order is part of a field's codec. Netlink speaks the machine's own byte order;
 * every machine this program is built for is little-endian (asserted in the tests).
 */
export interface Codec<T> {
  /** Length in bytes where it is fixed. */
  readonly size?: number;
  read(bytes: Uint8Array): T;
  /** Reads what lies between two offsets: a message is read in place, without an object for each of its parts. */
  readAt(bytes: Uint8Array, start: number, end: number): T;
  write(value: T): Uint8Array;
}

/** Bytes that are not what their codec knows, or a value that cannot be written. {@link decoded} makes an error of the kernel's of it. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

interface FixedCodec<T> extends Codec<T> {
  readonly size: number;
}

/** The decoded type of a codec. */
export type Decoded<C> = C extends Codec<infer T> ? T : never;

function view(bytes: Uint8Array): DataView {
  // A Uint8Array can be a window into a larger buffer: the offset is not optional.
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

type Parts<C> = Omit<C, 'read'>;

/** A codec that reads whole payloads, too. */
function codec<T>(parts: Parts<FixedCodec<T>>): FixedCodec<T>;
function codec<T>(parts: Parts<Codec<T>>): Codec<T>;
function codec<T>(parts: Parts<Codec<T>>): Codec<T> {
  return { ...parts, read: (bytes) => parts.readAt(bytes, 0, bytes.length) };
}

/** Newer kernels append fields to structs, so a longer payload is fine and a shorter one is not. */
function need(size: number, start: number, end: number): void {
  if (end - start < size) throw new CodecError(`Cannot decode ${size} bytes from ${end - start}`);
}

function scalar(
  size: number,
  read: (bytes: Uint8Array, at: number) => number,
  write: (v: DataView, n: number) => void,
): FixedCodec<number> {
  return codec({
    size,
    readAt: (bytes, start, end) => {
      need(size, start, end);
      return read(bytes, start);
    },
    write: (value) => {
      const bytes = new Uint8Array(size);
      write(view(bytes), value);
      return bytes;
    },
  });
}

export const u8 = scalar(
  1,
  (bytes, at) => bytes[at]!,
  (v, n) => v.setUint8(0, n),
);
// Byte by byte: a number of an array costs no call, one of a DataView does. An index past the end counts as 0.
const i32At = (bytes: Uint8Array, at: number) =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
export const u16 = scalar(
  2,
  (bytes, at) => bytes[at]! | (bytes[at + 1]! << 8),
  (v, n) => v.setUint16(0, n, true),
);
export const u32 = scalar(
  4,
  (bytes, at) => i32At(bytes, at) >>> 0,
  (v, n) => v.setUint32(0, n, true),
);
export const i32 = scalar(4, i32At, (v, n) => v.setInt32(0, n, true));
/** Counters: exact up to 2^53, and beyond that to 53 bits, as a number has them. */
export const u64 = scalar(
  8,
  (bytes, at) => (i32At(bytes, at + 4) >>> 0) * 2 ** 32 + (i32At(bytes, at) >>> 0),
  (v, n) => {
    v.setUint32(4, n / 2 ** 32, true);
    v.setUint32(0, n, true);
  },
);
/** Network byte order. */
export const be16 = scalar(
  2,
  (bytes, at) => (bytes[at]! << 8) | bytes[at + 1]!,
  (v, n) => v.setUint16(0, n),
);

/** Exactly so many bytes; writing fewer pads with zeros. */
export function fixedBytes(size: number): FixedCodec<Uint8Array> {
  return codec({
    size,
    readAt: (bytes, start, end) => {
      need(size, start, end);
      return bytes.subarray(start, start + size);
    },
    write: (value) => {
      if (value.length > size) throw new CodecError(`Cannot encode ${value.length} bytes in ${size}`);
      const bytes = new Uint8Array(size);
      bytes.set(value);
      return bytes;
    },
  });
}

/** The whole payload as it is. */
export const raw: Codec<Uint8Array> = codec({
  readAt: (bytes, start, end) => bytes.subarray(start, end),
  write: (value) => value,
});

/** Zero-terminated text. Names are bytes to the kernel: each is one character here (Latin-1), so that none is lost on the way back. */
export const cstring: Codec<string> = codec({
  readAt: (bytes, start, end) => {
    const zero = bytes.indexOf(0, start);
    return String.fromCharCode(...bytes.subarray(start, zero < 0 || zero > end ? end : zero));
  },
  write: (value) => {
    if (!/^[\x01-\xff]*$/.test(value))
      throw new CodecError(`Cannot encode ${JSON.stringify(value)}: it has characters of more than a byte`);
    return Uint8Array.from(`${value}\0`, (char) => char.charCodeAt(0));
  },
});

type StructOf<F extends Record<string, FixedCodec<unknown>>> = { readonly [K in keyof F]: Decoded<F[K]> };

/** A C struct: fields at their natural alignment, padded at the end to the largest alignment. */
export function struct<F extends Record<string, FixedCodec<unknown>>>(fields: F): FixedCodec<StructOf<F>> {
  const layout: { name: string; codec: FixedCodec<unknown>; offset: number }[] = [];
  let offset = 0;
  let widest = 1;
  for (const [name, codec] of Object.entries(fields)) {
    const alignment = [1, 2, 4, 8].includes(codec.size) ? codec.size : 1; // arrays of bytes have none
    offset = Math.ceil(offset / alignment) * alignment;
    widest = Math.max(widest, alignment);
    layout.push({ name, codec, offset });
    offset += codec.size;
  }
  const size = Math.ceil(offset / widest) * widest;
  return codec<StructOf<F>>({
    size,
    readAt: (bytes, start, end) => {
      need(size, start, end);
      const value: Record<string, unknown> = {};
      for (const field of layout) value[field.name] = field.codec.readAt(bytes, start + field.offset, end);
      return value as StructOf<F>;
    },
    write: (value) => {
      const bytes = new Uint8Array(size);
      for (const field of layout) bytes.set(field.codec.write(value[field.name]), field.offset);
      return bytes;
    },
  });
}

const NLA_HDRLEN = 4;
/** The upper bits of a type are this and NLA_F_NET_BYTEORDER; newer requests need it (IFLA_PROP_LIST), older ones go without. */
export const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

// #define NLA_ALIGN(len) (((len) + NLA_ALIGNTO - 1) & ~(NLA_ALIGNTO - 1))
function align(length: number): number {
  return (length + 3) & ~3;
}

/** Visits all attributes (`struct nlattr`, uapi/linux/netlink.h: length, type, payload) with the offsets of their payloads. */
function eachAttribute(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (type: number, start: number, end: number) => void,
): void {
  for (let at = start; at + NLA_HDRLEN <= end;) {
    const length = bytes[at]! | (bytes[at + 1]! << 8);
    if (length < NLA_HDRLEN || at + length > end)
      throw new CodecError(
        `Cannot decode attribute at ${at}: its length ${length} does not fit in ${end - at}`,
      );
    const type = bytes[at + 2]! | (bytes[at + 3]! << 8);
    visit(type & NLA_TYPE_MASK, at + NLA_HDRLEN, at + length);
    at += align(length);
  }
}

interface RawAttribute {
  readonly type: number;
  readonly payload: Uint8Array;
}

function writeAttributes(attributes: readonly RawAttribute[]): Uint8Array {
  const bytes = new Uint8Array(attributes.reduce((sum, a) => sum + align(NLA_HDRLEN + a.payload.length), 0));
  const data = view(bytes);
  let offset = 0;
  for (const { type, payload } of attributes) {
    data.setUint16(offset, NLA_HDRLEN + payload.length, true);
    data.setUint16(offset + 2, type, true);
    bytes.set(payload, offset + NLA_HDRLEN);
    offset += align(NLA_HDRLEN + payload.length);
  }
  return bytes;
}

type AttributeTable = Record<string, readonly [type: number, codec: Codec<never> | Codec<unknown>]>;

export type Attributes<A extends AttributeTable> = {
  readonly [K in keyof A]?: Decoded<A[K][1]> | undefined;
};

/**
 * A set of attributes, each at most once. Reading skips what the table does not name; writing keeps the order of the object, and leaves
 * undefined values out.
 */
export function attrs<A extends AttributeTable>(table: A): Codec<Attributes<A>> {
  const byType: { readonly name: string; readonly codec: AttributeTable[string][1] }[] = [];
  for (const [name, [type, codec]] of Object.entries(table)) byType[type & NLA_TYPE_MASK] = { name, codec };
  return codec<Attributes<A>>({
    readAt: (bytes, start, end) => {
      const known: Record<string, unknown> = {};
      eachAttribute(bytes, start, end, (type, from, to) => {
        const entry = byType[type];
        if (entry) known[entry.name] = entry.codec.readAt(bytes, from, to);
      });
      return known as Attributes<A>;
    },
    write: (value) =>
      writeAttributes(
        Object.entries(value).flatMap(([name, item]) => {
          if (item === undefined) return [];
          const [type, codec] = table[name] as readonly [number, Codec<unknown>];
          return [{ type, payload: codec.write(item) }];
        }),
      ),
  });
}

/** A list of attributes that all have one type, as IFLA_VFINFO_LIST holds IFLA_VF_INFO. Others are skipped on reading. */
export function listOf<T>(type: number, item: Codec<T>): Codec<readonly T[]> {
  return codec<readonly T[]>({
    readAt: (bytes, start, end) => {
      const items: T[] = [];
      eachAttribute(bytes, start, end, (found, from, to) => {
        if (found === type) items.push(item.readAt(bytes, from, to));
      });
      return items;
    },
    write: (items) => writeAttributes(items.map((value) => ({ type, payload: item.write(value) }))),
  });
}

/** A fixed header followed by attributes: the form of every rtnetlink message. */
export function message<H, A>(
  header: Codec<H> & { readonly size: number },
  attributes: Codec<A>,
): Codec<{ header: H; attributes: A }> {
  const headerSize = align(header.size);
  return codec({
    readAt: (bytes, start, end) => ({
      header: header.readAt(bytes, start, end),
      attributes: attributes.readAt(bytes, start + headerSize, end),
    }),
    write: (value: { header: H; attributes: A }) => {
      const body = attributes.write(value.attributes);
      const bytes = new Uint8Array(headerSize + body.length);
      bytes.set(header.write(value.header));
      bytes.set(body, headerSize);
      return bytes;
    },
  });
}
