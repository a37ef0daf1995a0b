import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { keys } from '../../src/cni/cni-keys.ts';

const documents = [
  ...readdirSync('.').filter((name) => name.endsWith('.md')),
  ...readdirSync('docs').map((name) => `docs/${name}`),
  'deploy/README.md',
  'lab/README.md',
].filter((name) => name.endsWith('.md'));
const textOf = (path: string) => readFileSync(path, 'utf8');

/** First cells of the rows of a section's table, without backticks. */
function rowsOf(text: string, heading: string): string[] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return [...section.matchAll(/^\| `([^|]+)` \|/gm)].map(([, cell]) => cell ?? '');
}

test('docs/configuration.md has every key of ours, and no other', () => {
  expect(rowsOf(textOf('docs/configuration.md'), 'Keys').sort()).toEqual(Object.keys(keys).sort());
});

test('README.md has every key of ours, and no other', () => {
  const named = rowsOf(textOf('README.md'), 'Keys').flatMap((cell) => cell.split('`, `'));
  expect([...named, 'pciBusID'].sort()).toEqual(Object.keys(keys).sort());
});

/** Text of a string, a template (with … for its values) or several put together; undefined for any other expression. */
function literal(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node))
    return node.head.text + node.templateSpans.map((span) => `…${span.literal.text}`).join('');
  if (!ts.isBinaryExpression(node)) return undefined;
  const [left, right] = [literal(node.left), literal(node.right)];
  return left === undefined || right === undefined ? undefined : left + right;
}

/** The text as the message of the error that is made of it right there, if one is: a KernelError has "Cannot OPERATION". */
function messageOf(node: ts.Node, text: string): { text: string; ofError: boolean } {
  const { parent } = node;
  if (!ts.isNewExpression(parent)) return { text, ofError: false };
  const maker = parent.expression.getText();
  if (maker === 'KernelError')
    return parent.arguments?.[0] === node
      ? { text: `Cannot ${text}`, ofError: true }
      : { text, ofError: false };
  // Its first argument is the kind.
  if (maker === 'Failure') return { text, ofError: parent.arguments?.[1] === node };
  const isError = /Error$|^(NotUsable|Unsupported|PathRefused|StillHeld|CannotLoadAddon)$/.test(maker);
  const first = parent.arguments?.find((argument) => literal(argument) !== undefined);
  return { text, ofError: isError && first === node };
}

/** All texts in the sources; `ofError` if an error is made of it right there. */
function textsOfSources(): { where: string; text: string; ofError: boolean }[] {
  const names = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  return names.flatMap((where) => {
    const file = ts.createSourceFile(where, textOf(`src/${where}`), ts.ScriptTarget.Latest, true);
    const found: { where: string; text: string; ofError: boolean }[] = [];
    const visit = (node: ts.Node) => {
      const text = literal(node);
      if (text !== undefined) found.push({ where, ...messageOf(node, text) });
      else ts.forEachChild(node, visit);
    };
    ts.forEachChild(file, visit);
    return found;
  });
}

describe('docs/troubleshooting.md', () => {
  const texts = textsOfSources();
  /** Messages in the first columns, with … for values. */
  const explained = [...textOf('docs/troubleshooting.md').matchAll(/^\| (`.*?) \| /gm)].flatMap(
    ([, cell = '']) => [...cell.matchAll(/`([^`]+)`/g)].map(([, message = '']) => message),
  );
  const pattern = (message: string) =>
    new RegExp(message.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')); // prettier-ignore
  /** Words between values, and around what KernelError puts about them: `Cannot OPERATION: ERRNO (HINT)`. */
  const fragments = (text: string) =>
    text.split(/…|^Cannot |: E[A-Z]+|[()"]/).filter((part) => part.trim().length > 6);

  // Codecs, what only a bug of ours can reach, what is known only while it is asked of Docker, and the tool's: its messages stand in the terminal, with the way out.
  const isInternal = ({ where, text }: { where: string; text: string }) =>
    where === 'kernel/codec.ts' ||
    where === 'docker/dockerd.ts' ||
    where.startsWith('inspect/') ||
    text === 'VERSION is answered without a host';
  const messages = texts.filter((one) => one.ofError && !isInternal(one) && fragments(one.text).length > 0);

  test.each(messages)('explains "$text" of $where', ({ text }) => {
    const isExplained = explained.some(
      (message) => pattern(message).test(text) || pattern(text).test(message),
    );
    expect(isExplained).toBe(true);
  });

  test('has no message that the sources do not have', () => {
    const all = texts.map(({ text }) => text).join('\n');
    const others = ['unsupported CNI result version "1.1.0"']; // runtimes say it
    const invented = explained.filter((message) => !others.includes(message)).flatMap(fragments).filter((part) => !all.includes(part)); // prettier-ignore
    expect(invented).toEqual([]);
  });
});

test.each(documents)('the links of %s lead somewhere', (path) => {
  const links = [...textOf(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, target]) => target ?? '');
  const broken = links
    .filter((target) => !target.startsWith('http'))
    .filter((target) => !existsSync(join(dirname(path), target)));
  expect(broken).toEqual([]);
});
