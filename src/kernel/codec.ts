/**
 * Codecs for netlink payloads. A codec is a value; structs and attribute sets are tables of codecs, and TypeScript infers the
 * type of the decoded object from the table. Byte order is part of a field's codec. Netlink speaks the machine's own byte order;
 * every machine this program is built for is little-endian (asserted in the tests).
 */
export interface Codec<T> {
  /** Length in bytes where it is fixed. */
  readonly size?: number;
  read(bytes: Uint8Array): T;
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

/** Newer kernels append fields to structs, so a longer payload is fine and a shorter one is not. */
function need(bytes: Uint8Array, size: number): Uint8Array {
  if (bytes.length < size) throw new CodecError(`Cannot decode ${size} bytes from ${bytes.length}`);
  return bytes;
}

function scalar(
  size: number,
  read: (v: DataView) => number,
  write: (v: DataView, n: number) => void,
): FixedCodec<number> {
  return {
    size,
    read: (bytes) => read(view(need(bytes, size))),
    write: (value) => {
      const bytes = new Uint8Array(size);
      write(view(bytes), value);
      return bytes;
    },
  };
}

export const u8 = scalar(
  1,
  (v) => v.getUint8(0),
  (v, n) => v.setUint8(0, n),
);
export const u16 = scalar(
  2,
  (v) => v.getUint16(0, true),
  (v, n) => v.setUint16(0, n, true),
);
export const u32 = scalar(
  4,
  (v) => v.getUint32(0, true),
  (v, n) => v.setUint32(0, n, true),
);
export const i32 = scalar(
  4,
  (v) => v.getInt32(0, true),
  (v, n) => v.setInt32(0, n, true),
);
/** Counters: exact up to 2^53, and beyond that to 53 bits, as a number has them. */
export const u64 = scalar(
  8,
  (v) => v.getUint32(4, true) * 2 ** 32 + v.getUint32(0, true),
  (v, n) => {
    v.setUint32(4, n / 2 ** 32, true);
    v.setUint32(0, n, true);
  },
);
/** Network byte order. */
export const be16 = scalar(
  2,
  (v) => v.getUint16(0),
  (v, n) => v.setUint16(0, n),
);

/** Exactly so many bytes; writing fewer pads with zeros. */
export function fixedBytes(size: number): FixedCodec<Uint8Array> {
  return {
    size,
    read: (bytes) => need(bytes, size).subarray(0, size),
    write: (value) => {
      if (value.length > size) throw new CodecError(`Cannot encode ${value.length} bytes in ${size}`);
      const bytes = new Uint8Array(size);
      bytes.set(value);
      return bytes;
    },
  };
}

/** The whole payload as it is. */
export const raw: Codec<Uint8Array> = { read: (bytes) => bytes, write: (value) => value };

/** Zero-terminated text. Names are bytes to the kernel: each is one character here (Latin-1), so that none is lost on the way back. */
export const cstring: Codec<string> = {
  read: (bytes) => {
    const end = bytes.indexOf(0);
    return String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
  },
  write: (value) => {
    if (!/^[\x01-\xff]*$/.test(value))
      throw new CodecError(`Cannot encode ${JSON.stringify(value)}: it has characters of more than a byte`);
    return Uint8Array.from(`${value}\0`, (char) => char.charCodeAt(0));
  },
};

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
  return {
    size,
    read: (bytes) => {
      need(bytes, size);
      const value: Record<string, unknown> = {};
      for (const { name, codec, offset } of layout) value[name] = codec.read(bytes.subarray(offset));
      return value as StructOf<F>;
    },
    write: (value) => {
      const bytes = new Uint8Array(size);
      for (const f of layout) bytes.set(f.codec.write(value[f.name]), f.offset);
      return bytes;
    },
  };
}

/** One attribute as it lies in a message: `struct nlattr` (uapi/linux/netlink.h) and its payload. */
export interface RawAttribute {
  readonly type: number;
  readonly payload: Uint8Array;
}

const NLA_HDRLEN = 4;
/** The upper bits of a type are this and NLA_F_NET_BYTEORDER; newer requests need it (IFLA_PROP_LIST), older ones go without. */
export const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

// #define NLA_ALIGN(len) (((len) + NLA_ALIGNTO - 1) & ~(NLA_ALIGNTO - 1))
function align(length: number): number {
  return (length + 3) & ~3;
}

function readAttributes(bytes: Uint8Array): RawAttribute[] {
  const attributes: RawAttribute[] = [];
  const data = view(bytes);
  for (let offset = 0; offset + NLA_HDRLEN <= bytes.length;) {
    const length = data.getUint16(offset, true);
    if (length < NLA_HDRLEN || offset + length > bytes.length) {
      throw new CodecError(
        `Cannot decode attribute at ${offset}: its length ${length} does not fit in ${bytes.length}`,
      );
    }
    const type = data.getUint16(offset + 2, true) & NLA_TYPE_MASK;
    attributes.push({ type, payload: bytes.subarray(offset + NLA_HDRLEN, offset + length) });
    offset += align(length);
  }
  return attributes;
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
} & {
  /** What the table does not name, as it was. */
  readonly unknown?: readonly RawAttribute[];
};

/** A set of attributes, each at most once. Writing keeps the order of the object; undefined values are left out. */
export function attrs<A extends AttributeTable>(table: A): Codec<Attributes<A>> {
  const byType = new Map(
    Object.entries(table).map(([name, [type, codec]]) => [type & NLA_TYPE_MASK, { name, codec }]),
  );
  return {
    read: (bytes) => {
      const known: Record<string, unknown> = {};
      const unknown: RawAttribute[] = [];
      for (const attribute of readAttributes(bytes)) {
        const entry = byType.get(attribute.type);
        if (entry) known[entry.name] = entry.codec.read(attribute.payload);
        else unknown.push(attribute);
      }
      return (unknown.length ? { ...known, unknown } : known) as Attributes<A>;
    },
    write: (value) => {
      const list: RawAttribute[] = [];
      for (const [name, item] of Object.entries(value)) {
        if (name === 'unknown' || item === undefined) continue;
        const [type, codec] = table[name] as readonly [number, Codec<unknown>];
        list.push({ type, payload: codec.write(item) });
      }
      return writeAttributes([...list, ...(value.unknown ?? [])]);
    },
  };
}

/** A list of attributes that all have one type, as IFLA_VFINFO_LIST holds IFLA_VF_INFO. Others are skipped on reading. */
export function listOf<T>(type: number, codec: Codec<T>): Codec<readonly T[]> {
  return {
    read: (bytes) =>
      readAttributes(bytes)
        .filter((a) => a.type === type)
        .map((a) => codec.read(a.payload)),
    write: (items) => writeAttributes(items.map((item) => ({ type, payload: codec.write(item) }))),
  };
}

/** A fixed header followed by attributes: the form of every rtnetlink message. */
export function message<H, A>(
  header: Codec<H> & { readonly size: number },
  attributes: Codec<A>,
): Codec<{ header: H; attributes: A }> {
  const start = align(header.size);
  return {
    read: (bytes) => ({ header: header.read(bytes), attributes: attributes.read(bytes.subarray(start)) }),
    write: (value) => {
      const body = attributes.write(value.attributes);
      const bytes = new Uint8Array(start + body.length);
      bytes.set(header.write(value.header));
      bytes.set(body, start);
      return bytes;
    },
  };
}
