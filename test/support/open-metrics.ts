/** A strict reader of OpenMetrics text 1.0, written from the rules of the format and not from what we print. */

export interface ReadFamily {
  readonly name: string;
  readonly type: string;
  readonly unit: string;
  readonly help: string;
  readonly samples: readonly ReadSample[];
}

export interface ReadSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Suffixes that a type's samples have; "" is none. */
const suffixes: Readonly<Record<string, readonly string[]>> = {
  counter: ['_total', '_created'],
  gauge: [''],
  unknown: [''],
  info: ['_info'],
  stateset: [''],
};

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const labelName = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const realNumber = /^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?Inf(inity)?$|^NaN$/i;

function fail(line: number, problem: string): never {
  throw new Error(`line ${line}: ${problem}`);
}

/** `a="1",b="2"}` from a position after the opening brace: the labels and where the closing brace is. */
function readLabels(text: string, start: number, line: number) {
  const labels: Record<string, string> = {};
  let at = start;
  while (text[at] !== '}') {
    if (at !== start && text[at++] !== ',') fail(line, `a comma is missing in ${text}`);
    const equals = text.indexOf('=', at);
    const name = text.slice(at, equals);
    if (!labelName.test(name)) fail(line, `"${name}" is no label name`);
    if (Object.hasOwn(labels, name)) fail(line, `label "${name}" stands twice`);
    if (text[equals + 1] !== '"') fail(line, `the value of "${name}" has no quote`);
    let value = '';
    for (at = equals + 2; text[at] !== '"'; at++) {
      const char = text[at] ?? fail(line, `the value of "${name}" does not end`);
      if (char !== '\\') value += char;
      else {
        const escaped = text[++at] ?? '';
        value += { n: '\n', '"': '"', '\\': '\\' }[escaped] ?? fail(line, `"\\${escaped}" is no escape`);
      }
    }
    labels[name] = value;
    at++;
  }
  return { labels, end: at };
}

function readSample(text: string, line: number): ReadSample {
  const [head = ''] = /^[^{ ]*/.exec(text) ?? [];
  if (!metricName.test(head)) fail(line, `"${head}" is no metric name`);
  const { labels, end } =
    text[head.length] === '{'
      ? readLabels(text, head.length + 1, line)
      : { labels: {}, end: head.length - 1 };
  const rest = text.slice(end + 1);
  const [, number = ''] = /^ (\S+)$/.exec(rest) ?? fail(line, `no value, or more than that, in "${rest}"`);
  if (!realNumber.test(number)) fail(line, `"${number}" is no number`);
  return { name: head, labels, value: Number(number) };
}

/** @throws Error naming the line and the rule that it breaks */
export function parseOpenMetrics(text: string): ReadFamily[] {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const lines = text.slice(0, -1).split('\n');
  const families = new Map<string, ReadFamily & { samples: ReadSample[] }>();
  const series = new Set<string>();
  let current: (ReadFamily & { samples: ReadSample[] }) | undefined;
  lines.forEach((text, i) => {
    const line = i + 1;
    if (text === '# EOF') {
      if (line !== lines.length) fail(line, 'something follows # EOF');
      return;
    }
    if (line === lines.length) fail(line, '# EOF is missing');
    const descriptor = /^# (TYPE|UNIT|HELP) (\S+) (.*)$/.exec(text);
    if (!descriptor) {
      if (text.startsWith('#') || text === '') fail(line, `"${text}" is neither descriptor nor sample`);
      const sample = readSample(text, line);
      const family = current ?? fail(line, 'a sample without a family');
      const suffix = sample.name.slice(family.name.length);
      if (!sample.name.startsWith(family.name) || !suffixes[family.type]?.includes(suffix))
        fail(line, `${sample.name} is no sample of ${family.type} ${family.name}`);
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      if (series.has(key)) fail(line, `the series ${key} stands twice`);
      series.add(key);
      if (family.type === 'counter' && !(sample.value >= 0)) fail(line, 'a counter below zero');
      family.samples.push(sample);
      return;
    }
    const [, kind = '', name = '', value = ''] = descriptor;
    if (!metricName.test(name)) fail(line, `"${name}" is no metric name`);
    if (name !== current?.name) {
      if (families.has(name)) fail(line, `the family ${name} is taken up again`);
      current = { name, type: 'unknown', unit: '', help: '', samples: [] };
      families.set(name, current);
    }
    if (current.samples.length > 0) fail(line, `${kind} of ${name} after its samples`);
    const set = (values: Partial<ReadFamily>) => Object.assign(current as object, values);
    if (kind === 'TYPE') {
      if (!suffixes[value]) fail(line, `"${value}" is no type`);
      if (name.endsWith('_total')) fail(line, `a family must not end with _total: ${name}`);
      set({ type: value });
    } else if (kind === 'UNIT') {
      if (value !== '' && !name.endsWith(`_${value}`)) fail(line, `${name} does not end with _${value}`);
      set({ unit: value });
    } else {
      if (/\\(?![n"\\])/.test(value)) fail(line, 'a wrong escape in HELP');
      set({ help: value });
    }
  });
  const names = [...families.keys()];
  for (const { name, type } of families.values())
    for (const suffix of type === 'counter' ? ['_total', '_created'] : [])
      if (names.includes(name + suffix)) throw new Error(`${name}${suffix} clashes with a counter's sample`);
  return [...families.values()];
}

/** The one value of a series; undefined if there is none. */
export function valueOf(
  families: readonly ReadFamily[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = families
    .flatMap(({ samples }) => samples)
    .filter((one) => one.name === name && Object.entries(labels).every(([k, v]) => one.labels[k] === v));
  if (found.length > 1) throw new Error(`${found.length} series of ${name} ${JSON.stringify(labels)}`);
  return found[0]?.value;
}
