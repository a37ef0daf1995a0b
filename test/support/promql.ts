/**
 * Reads PromQL as far as a dashboard needs it, and follows the labels through it: what a query groups, joins or shows by must be there.
 * Prometheus' own parser has the last word (test/lab/metrics.test.ts).
 */

/** Labels that each metric has. */
export type KnownMetrics = ReadonlyMap<string, ReadonlySet<string>>;

const aggregations = ['sum', 'min', 'max', 'avg', 'count', 'topk', 'bottomk'];
/** Functions of a range, and of an instant vector; time() takes nothing. */
const rangeFunctions = ['rate', 'irate', 'increase', 'changes', 'max_over_time'];
const functions = ['abs', 'clamp_min', 'round', 'sort_desc', 'sort'];
/** By how strongly they bind. */
const operators = [
  ['or'],
  ['and', 'unless'],
  ['==', '!=', '<=', '>=', '<', '>'],
  ['+', '-'],
  ['*', '/', '%'],
];
const comparisons = operators[2] ?? [];

const token =
  /\s*(?:("(?:[^"\\\n]|\\.)*")|(\d+(?:\.\d+)?)(?![\w.])|(\d+(?:ms|[smhdwy]))|([a-zA-Z_:][\w:]*)|(=~|!~|!=|==|<=|>=|[-+*/%<>=(){}[\],]))/y;

interface Token {
  readonly kind: 'string' | 'number' | 'duration' | 'word' | 'sign';
  readonly text: string;
}

function tokensOf(query: string): Token[] {
  const kinds = ['string', 'number', 'duration', 'word', 'sign'] as const;
  const tokens: Token[] = [];
  token.lastIndex = 0;
  const text = query.trimEnd();
  while (token.lastIndex < text.length) {
    const at = token.lastIndex;
    const found = token.exec(text);
    if (!found) throw new Error(`cannot read "${text.slice(at)}"`);
    const i = found.slice(1).findIndex((part) => part !== undefined);
    tokens.push({ kind: kinds[i] ?? 'sign', text: found[i + 1] ?? '' });
  }
  return tokens;
}

/** What an expression yields: a scalar has no labels. */
type Value =
  { readonly type: 'scalar' } | { readonly type: 'instant' | 'range'; readonly labels: ReadonlySet<string> };

/** The labels that a query's series have. @throws Error if it is not PromQL, or names what is not there */
export function labelsOfQuery(query: string, metrics: KnownMetrics): ReadonlySet<string> {
  const tokens = tokensOf(query);
  let at = 0;
  const peek = () => tokens[at]?.text;
  const accept = (text: string) => (peek() === text ? (at++, true) : false);
  const expect = (text: string) => {
    if (!accept(text)) throw new Error(`"${text}" expected at "${peek()}" in ${query}`);
  };
  const take = (kind: Token['kind']): string => {
    const next = tokens[at++];
    if (next?.kind !== kind) throw new Error(`a ${kind} expected at "${next?.text}" in ${query}`);
    return next.text;
  };
  const need = (labels: ReadonlySet<string>, names: readonly string[]) => {
    for (const name of names) if (!labels.has(name)) throw new Error(`no label "${name}" there in ${query}`);
  };
  const instant = (value: Value): ReadonlySet<string> => {
    if (value.type !== 'instant')
      throw new Error(`a ${value.type} where an instant vector must be: ${query}`);
    return value.labels;
  };

  const names = (): string[] => {
    const found: string[] = [];
    expect('(');
    while (!accept(')')) {
      found.push(take('word'));
      if (peek() !== ')') expect(',');
    }
    return found;
  };

  const grouping = (): ((labels: ReadonlySet<string>) => ReadonlySet<string>) | undefined => {
    const [by, without] = [accept('by'), accept('without')];
    if (!by && !without) return undefined;
    const listed = names();
    return (labels) => {
      need(labels, listed);
      return new Set(by ? listed : [...labels].filter((name) => !listed.includes(name)));
    };
  };

  const selector = (name: string): Value => {
    const known = metrics.get(name);
    if (!known) throw new Error(`no metric "${name}" in ${query}`);
    if (accept('{')) {
      while (!accept('}')) {
        need(known, [take('word')]);
        if (!['=', '!=', '=~', '!~'].includes(take('sign'))) throw new Error(`no matcher in ${query}`);
        take('string');
        if (peek() !== '}') expect(',');
      }
    }
    const isRange = accept('[');
    if (isRange) {
      take('duration');
      expect(']');
    }
    return { type: isRange ? 'range' : 'instant', labels: known };
  };

  const called = (name: string): Value => {
    expect('(');
    if (name === 'time') {
      expect(')');
      return { type: 'scalar' };
    }
    const value = binary(0);
    while (accept(',')) binary(0);
    expect(')');
    const isOfRange = rangeFunctions.includes(name);
    if (isOfRange !== (value.type === 'range')) throw new Error(`${name}() of a ${value.type} in ${query}`);
    return value.type === 'scalar' ? value : { type: 'instant', labels: value.labels };
  };

  const primary = (): Value => {
    if (accept('(')) {
      const value = binary(0);
      expect(')');
      return value;
    }
    if (accept('-')) return primary();
    if (tokens[at]?.kind === 'number') {
      at++;
      return { type: 'scalar' };
    }
    const name = take('word');
    if (aggregations.includes(name)) {
      const before = grouping();
      expect('(');
      if (name.endsWith('k')) {
        take('number');
        expect(',');
      }
      const labels = instant(binary(0));
      expect(')');
      const group = before ?? grouping();
      if (name.endsWith('k')) return { type: 'instant', labels };
      return { type: 'instant', labels: group ? group(labels) : new Set() };
    }
    if ([...rangeFunctions, ...functions, 'time'].includes(name)) return called(name);
    return selector(name);
  };

  const binary = (level: number): Value => {
    const signs = operators[level];
    if (!signs) return primary();
    let left = binary(level + 1);
    for (let sign = peek(); sign !== undefined && signs.includes(sign); sign = peek()) {
      at++;
      if (comparisons.includes(sign)) accept('bool');
      const [on, ignoring] = [accept('on'), accept('ignoring')];
      const listed = on || ignoring ? names() : undefined;
      const isManyToOne = accept('group_left');
      const included = isManyToOne && peek() === '(' ? names() : [];
      const right = binary(level + 1);
      left = joined(sign, left, right, { on, listed, isManyToOne, included });
    }
    return left;
  };

  const joined = (
    sign: string,
    left: Value,
    right: Value,
    { on, listed, isManyToOne, included }: { on: boolean; listed: string[] | undefined; isManyToOne: boolean; included: string[] }, // prettier-ignore
  ): Value => {
    if (left.type === 'scalar' || right.type === 'scalar') {
      if (listed) throw new Error(`a scalar cannot be joined: ${query}`);
      return left.type === 'scalar' ? right : left;
    }
    const [l, r] = [instant(left), instant(right)];
    if (listed) {
      need(l, listed);
      need(r, listed);
    }
    need(r, included);
    if (['and', 'unless', 'or'].includes(sign)) return left;
    if (isManyToOne) return { type: 'instant', labels: new Set([...l, ...included]) };
    const matched = [...l].filter((name) => (listed ? listed.includes(name) === on : r.has(name)));
    return { type: 'instant', labels: new Set(matched) };
  };

  const value = binary(0);
  if (at < tokens.length) throw new Error(`"${peek()}" is too much in ${query}`);
  return value.type === 'scalar' ? new Set() : instant(value);
}
