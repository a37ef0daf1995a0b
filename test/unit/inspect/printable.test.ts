import { describe, expect, test } from 'vitest';
import { formatDevice } from '../../../src/inspect/inspect.ts';
import { formatList } from '../../../src/inspect/list.ts';
import type { Device } from '../../../src/inspect/device.ts';
import { formatTable, paint } from '../../../src/inspect/table.ts';
import type { Link } from '../../../src/kernel/link-message.ts';
import { seeded } from '../../support/random.ts';

/** What moves a cursor, starts a line or turns the direction of writing: C0 but for our own line ends, C1, bidi, separators. */
const dangerous = /[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;
const pieces = [
  '\x1b[2J',
  '\x1b]0;x\x07',
  '\n',
  '\r',
  '\x08',
  '\x9b31m',
  '\u202e',
  '\u2066',
  '\u2028',
  '\0',
  'web',
  '0',
  '/',
  'é',
  ' ',
];
const plain = { columns: undefined, hasColour: false };
const random = seeded(7);
const name = () => Array.from({ length: 1 + random.below(6) }, () => random.pick(pieces)).join('');

function deviceOfNames(): Device {
  const pf = { pci: '0000:03:00.0', ifname: name(), driver: name(), numVfs: 2, totalVfs: 7 };
  const link = { ifname: name(), altnames: [name()], mac: '02:00:00:00:00:01', mtu: 1500, flags: 0 };
  return {
    vf: { pci: '0000:03:10.0', pf, index: 0, driver: name(), ifnames: [name()] },
    isPf: false,
    state: 'held',
    why: `held by ${name()}`,
    owner: { pod: name(), containerId: name(), ifname: name(), network: name(), netns: name(), by: 'sriov' },
    since: '2026-01-01T00:00:00Z',
    link: link as unknown as Link,
    netns: name(),
    rdma: { name: name(), files: [name()], isOnHost: false },
    settings: undefined,
    claim: undefined,
    before: undefined,
    holders: [{ pid: 1, program: name() }],
  };
}

describe('what others chose reaches no terminal as it is', () => {
  const details = { iommuGroup: undefined, addresses: [], isNetnsAlive: undefined };
  test.each(Array.from({ length: 200 }, (_, i) => i))('names of round %i', () => {
    const device = deviceOfNames();
    const list = formatList([device], plain, 0);
    expect(list).not.toMatch(dangerous);
    expect(list.split('\n')).toHaveLength(3);
    const whole = formatDevice(device, details, plain, 0);
    expect(whole).not.toMatch(dangerous);
    for (const line of whole.trimEnd().split('\n').slice(1)) expect(line).toMatch(/^ {2}\S/);
  });

  test('and the columns of what is shown are aligned', () => {
    const table = formatTable(
      ['A', 'B'],
      [
        [{ text: 'x\x1b[m' }, { text: 'y' }],
        [{ text: 'x' }, { text: 'z' }],
      ],
      plain,
    );
    expect(table).toBe('A          B\nx\\u001b[m  y\nx          z\n');
  });

  test('nor a colour', () => {
    expect(paint({ columns: 80, hasColour: true }, 'red', 'a\x1b[0m\nb')).toBe(
      '\x1b[31ma\\u001b[0m\\u000ab\x1b[0m',
    );
  });
});
