import { readFileSync } from 'node:fs';

/** Bytes of test/golden/NAME.hex: its lines without the comments that tell where they come from. */
export function golden(name: string): Uint8Array {
  const text = readFileSync(new URL(`../golden/${name}.hex`, import.meta.url), 'utf8');
  const hex = text.replace(/^#.*$/gm, '').replace(/\s/g, '');
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
