/** Values through Node-API and back: for probe-addon.c, on both engines. */
interface Addon {
  utf8(text: unknown): Uint8Array;
  text(bytes: unknown): string;
  cut(text: string, size: number): string;
  half(number: unknown): number;
  pair(list: unknown): unknown;
  many(count: number): boolean[];
  refuse(message: string): never;
}

const texts = [
  '',
  'plain',
  'zero\0inside',
  'ä',
  '€',
  '𝄞',
  '\ud800',
  'a\udc00b',
  '\udc00\ud800',
  '\ud834𝄞',
  'ab€'.repeat(99),
];

/** Bytes, as Latin-1 text: of UTF-8, and of what is not. */
const bytes = [
  ...['', 'plain text of ASCII', 'c3 a4', 'e2 82 ac', 'f0 9d 84 9e', 'ef bb bf 61', '00 61'],
  ...[
    '80',
    'c0 80',
    'c1 bf',
    'c3',
    'c3 28',
    'e2 82',
    'e2 82 28',
    'e0 80 80',
    'e0 9f bf',
    'ed a0 80',
    'ed 9f bf',
    'f0 80 80 80',
  ],
  ...[
    'f0 8f bf bf',
    'f4 8f bf bf',
    'f4 90 80 80',
    'f5 80 80 80',
    'f8 88 80 80 80',
    'ff fe',
    'f0 9d 84',
    'f0 9d 84 28',
    'e2 e2 82 ac',
  ],
  ...[
    '61 61 61 61 61 61 61 61 61 61 61 e2 82 61',
    '61 61 61 61 61 61 61 61 c3 a4 80 61 61 61 61 61 61 61 61 61 ff',
  ],
].map((hex) => Uint8Array.from(hex.split(' ').filter(Boolean), (byte) => Number.parseInt(byte, 16)));

const attempt = (call: () => unknown): unknown => {
  try {
    return call();
  } catch (error) {
    const { message, errno } = error as { message: string; errno?: number };
    return { message, errno, isError: error instanceof Error };
  }
};

export function probe(addon: Addon): unknown {
  const window = new Uint8Array(Uint8Array.of(0, 104, 105, 0).buffer, 1, 2);
  return [
    texts.map((text) => [...addon.utf8(text)]),
    bytes.map((list) => addon.text(list)),
    [1, 2, 3, 4, 5, 6].map((size) => addon.cut('a€ä', size)),
    [1, -3, 0.5, 2 ** 53, 1e300, Infinity, '4', undefined].map((number) => addon.half(number)),
    [[], ['x', 2], 'no list'].map((list) => attempt(() => addon.pair(list))),
    addon.many(1000).filter(Boolean).length,
    addon.text(window),
    ['', undefined, 7].map((value) => [...addon.utf8(value)]),
    attempt(() => addon.refuse('it was refused')),
    addon.half(4),
  ];
}
