import type { Duplex } from 'node:stream';

export interface Frame {
  readonly id: number;
  readonly kind: string;
  readonly bytes: Buffer;
}

const headerLength = 9;

/** Sends a frame to the guest's agent; `guest/agent.pl` tells the kinds. */
export function sendFrame(
  port: Duplex,
  id: number,
  kind: 'R' | 'I' | 'K',
  bytes: Uint8Array = Buffer.alloc(0),
): void {
  const header = Buffer.alloc(headerLength);
  header.writeUInt32BE(id, 0);
  header.write(kind, 4, 'latin1');
  header.writeUInt32BE(bytes.length, 5);
  port.write(header);
  port.write(bytes);
}

/** Calls back for every frame that the agent sends. */
export function onFrame(port: Duplex, handle: (frame: Frame) => void): void {
  let received: Buffer = Buffer.alloc(0);
  port.on('data', (chunk: Buffer) => {
    received = received.length > 0 ? Buffer.concat([received, chunk]) : chunk;
    while (received.length >= headerLength) {
      const end = headerLength + received.readUInt32BE(5);
      if (received.length < end) break;
      const bytes = received.subarray(headerLength, end);
      handle({ id: received.readUInt32BE(0), kind: received.toString('latin1', 4, 5), bytes });
      received = received.subarray(end);
    }
  });
}

/** The payload that asks the agent to run a script: it and the environment's settings, each after its length. */
export function runRequest(script: string, env: Readonly<Record<string, string>>): Buffer {
  const parts = [script, ...Object.entries(env).map(([key, value]) => `${key}=${value}`)];
  return Buffer.concat(
    parts.flatMap((part) => {
      const bytes = Buffer.from(part);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}
