/** As much of protobuf's wire format as a test needs: numbers, texts and messages by field number. */

export type Value = string | number | boolean | Uint8Array;

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

/** Encodes a message: field number and value of each field; undefined is left out. */
export function message(...fields: readonly (readonly [number, Value | undefined])[]): Buffer {
  const parts = fields.flatMap(([number, value]) => {
    if (value === undefined) return [];
    if (typeof value === 'number' || typeof value === 'boolean')
      return [Buffer.from([...varint(number << 3), ...varint(Number(value))])];
    const bytes = Buffer.from(value);
    return [Buffer.from([...varint((number << 3) | 2), ...varint(bytes.length)]), bytes];
  });
  return Buffer.concat(parts);
}

/** A message that was received. */
export class Fields {
  readonly #values = new Map<number, (number | Buffer)[]>();

  constructor(bytes: Buffer) {
    let at = 0;
    const readVarint = () => {
      let value = 0;
      for (let factor = 1; ; factor *= 128) {
        const byte = bytes.readUInt8(at++);
        value += (byte & 127) * factor;
        if (byte < 128) return value;
      }
    };
    while (at < bytes.length) {
      const tag = readVarint();
      let value: number | Buffer;
      if ((tag & 7) === 0) value = readVarint();
      else if ((tag & 7) === 2) {
        const length = readVarint();
        value = bytes.subarray(at, (at += length));
      } else throw new Error(`wire type ${tag & 7} at byte ${at}`);
      this.#values.set(tag >>> 3, [...(this.#values.get(tag >>> 3) ?? []), value]);
    }
  }

  text(field: number): string {
    return this.#values.get(field)?.at(-1)?.toString() ?? '';
  }

  number(field: number): number {
    return Number(this.#values.get(field)?.at(-1) ?? 0);
  }

  messages(field: number): Fields[] {
    return (this.#values.get(field) ?? []).map((value) => new Fields(value as Buffer));
  }

  message(field: number): Fields {
    return this.messages(field).at(-1) ?? new Fields(Buffer.alloc(0));
  }

  /** A map of texts. */
  map(field: number): ReadonlyMap<string, string> {
    return new Map(this.messages(field).map((entry) => [entry.text(1), entry.text(2)]));
  }
}
