import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { keys as wishKeys } from '../../src/attach/keys.ts';
import { keys } from '../../src/cni/cni-keys.ts';
import { parseConfig } from '../../src/cni/config.ts';
import { Code } from '../../src/cni/errors.ts';
import { parseRequest } from '../../src/cni/request.ts';
import { wishOfNetwork as wishOfDocker } from '../../src/docker/endpoint-wish.ts';
import { help, manuals, optionHelp } from '../../src/inspect/help.ts';
import { wishOfNetwork as wishOfPodman } from '../../src/podman/network-wish.ts';
import { podClaimSchema } from '../../src/vf/claim.ts';

const folders = ['docs', 'deploy', 'lab', 'conf-examples'];
const documents = [
  ...readdirSync('.'),
  ...folders.flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`)),
].filter((name) => name.endsWith('.md'));
const textOf = (path: string) => readFileSync(path, 'utf8');

/** What stands in code spans and code blocks. */
function codeOf(text: string): string[] {
  const blocks = text.match(/^```[^]*?^```/gm) ?? [];
  const spans = text.replaceAll(/^```[^]*?^```/gm, '').match(/`[^`]+`/g) ?? [];
  return [
    ...blocks.flatMap((block) => block.split('\n').slice(1, -1)),
    ...spans.map((span) => span.slice(1, -1)),
  ];
}

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
  const isError = /Error$|^(NotUsable|Unsupported|PathRefused|StillHeld|Claimed|CannotLoadAddon)$/.test(
    maker,
  );
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
  const escaped = (part: string) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const pattern = (message: string) => new RegExp(message.split('…').map(escaped).join('.*'));
  /** Words between values, and around what KernelError puts about them: `Cannot OPERATION: ERRNO (HINT)`. */
  const fragments = (text: string) =>
    text.split(/…|^Cannot |: E[A-Z]+|[()"]/).filter((part) => part.trim().length > 6);

  // Codecs, what only a bug of ours can reach, what is known only while it is asked of Docker, and the tool's: its messages
  // stand in the terminal, with the way out.
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
    const parts = explained.filter((message) => !others.includes(message)).flatMap(fragments);
    expect(parts.filter((part) => !all.includes(part))).toEqual([]);
  });
});

/** Anchors of a document's headings, as GitHub makes them. */
function anchorsOf(text: string): string[] {
  return [...text.replaceAll(/^```[^]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(documents)('the links of %s lead somewhere, to the very heading', (path) => {
  const links = [...textOf(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  const broken = links
    .filter((target) => !target.startsWith('http'))
    .filter((target) => {
      const [file = '', anchor] = target.split('#');
      const place = file === '' ? path : join(dirname(path), file);
      return !existsSync(place) || (anchor !== undefined && !anchorsOf(textOf(place)).includes(anchor));
    });
  expect(broken).toEqual([]);
});

test.each(documents)('%s has no line of prose that is too long to read', (path) => {
  const prose = textOf(path)
    .replaceAll(/^```[^]*?^```/gm, '')
    .split('\n');
  expect(
    prose.filter((line) => line.length > 130 && !line.startsWith('|') && !/^!?\[.*\)$/.test(line)),
  ).toEqual([]);
});

describe('network configurations in documents', () => {
  const blocksOf = (path: string, kind: string) =>
    [...textOf(path).matchAll(new RegExp(`^\`\`\`${kind}\\n([^]*?)^\`\`\``, 'gm'))].map(
      ([, block = '']) => block,
    );
  const configs = documents.flatMap((path) => {
    const manifests = blocksOf(path, 'yaml').flatMap((block) =>
      parseAllDocuments(block, { strict: true }).map((one) => one.toJS() as { spec?: { config?: string } }),
    );
    return [...blocksOf(path, 'json'), ...manifests.flatMap(({ spec }) => spec?.config ?? [])].map(
      (text) => [path, text] as const,
    );
  });

  test.each(configs)('%s: %s', (_, text) => {
    const network = JSON.parse(text) as Record<string, unknown> & { plugins?: Record<string, unknown>[] };
    const { plugins = [network], cniVersion, name } = network;
    for (const plugin of plugins.filter(({ type }) => type === 'sriov')) {
      const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1' };
      const request = parseRequest('ADD', env, JSON.stringify({ ...plugin, cniVersion, name }));
      expect(parseConfig(request)).toMatchObject({ notes: [], warnings: [] });
    }
  });
});

describe('what documents name', () => {
  const roots = ['src', 'test', 'lab', 'build', 'bench', 'deploy', 'docs', 'conf-examples'];
  const files = roots.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' }).map((name) => `${root}/${name}`),
  );
  const isThere = (name: string) =>
    files.some((file) => file === name || file.endsWith(`/${name}`) || file.endsWith(`/${name}.ts`));

  test.each(documents)('every file of ours in %s is there', (path) => {
    const code = codeOf(textOf(path)).join('\n');
    const inFolders =
      /(?<![\w/.<>-])(?:src|test|build|bench|deploy|docs|conf-examples|attach|vf|dpdk|inspect)\/[\w/.-]*\w/g;
    const bare = /(?<![\w/*.<>-])[\w-]+(?:\.test)?\.(?:ts|c|sh|yaml)\b/g;
    const named = [...(code.match(inFolders) ?? []), ...(code.match(bare) ?? [])];
    expect(named.filter((name) => name !== 'script.sh' && !isThere(name))).toEqual([]);
  });

  test.each(documents)('every target and variable of make in %s is one', (path) => {
    const makefile = textOf('Makefile');
    const calls = codeOf(textOf(path)).flatMap(
      (code) => code.split('#')[0]?.match(/(?:^|[ &(])make (?:-s )?[^&`]*/g) ?? [],
    );
    const targets = calls.map((call) => /make (?:-s )?([a-z][a-z-]*)/.exec(call)?.[1] ?? '');
    expect(targets.filter((name) => name !== '' && !makefile.includes(`\n${name}: `))).toEqual([]);
    const variables = calls.flatMap((call) => call.match(/\b[A-Z_]+(?==)/g) ?? []);
    expect(variables.filter((name) => !new RegExp(`\\b${name}\\b`).test(makefile))).toEqual([]);
  });

  test.each(documents)('every error code in %s is one', (path) => {
    const named = [...textOf(path).matchAll(/(?<!exit )\bcodes? (\d+)/gi)].map(([, code]) => Number(code));
    expect(named.filter((code) => !Object.values<number>(Code).includes(code))).toEqual([]);
  });
});

test('docs/architecture.md has every folder of src', () => {
  const text = textOf('docs/architecture.md');
  const below = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(below.map(({ name }) => `src/${name}/`).filter((folder) => !text.includes(folder))).toEqual([]);
});

test('README.md has every error code, and no other', () => {
  const section =
    textOf('README.md')
      .split(/^## /m)
      .find((part) => part.startsWith('Errors\n')) ?? '';
  const explained = [...section.matchAll(/^\| (\d[\d, ]*) \|/gm)].flatMap(([, cell = '']) =>
    cell.split(', ').map(Number),
  );
  expect(explained).toEqual(Object.values(Code));
});

test('README.md and docs/tool.md have every command of the tool with its words and options', () => {
  const usages = [...help('').matchAll(/^ {2}(sriov \S.*?)(?: {2,}|$)/gm)].map(([, usage = '']) => usage);
  expect(usages).toHaveLength(Object.keys(manuals).length + 1);
  const readme = textOf('README.md');
  expect(usages.filter((usage) => usage !== 'sriov help COMMAND' && !readme.includes(`${usage} `))).toEqual(
    [],
  );
  const manual = textOf('docs/tool.md');
  const rows = [...manual.matchAll(/^\| \[`(sriov [^`]+)`\]\(#(\w+)\)/gm)].map(([, usage = '']) =>
    usage.replaceAll('\\|', '|'),
  );
  expect(rows).toEqual(Object.entries(manuals).map(([name, { words }]) => `sriov ${name} ${words}`.trim()));
  const options = Object.values(optionHelp).map(
    (line) => line.split(/,? /).find((word) => word.startsWith('-')) ?? '',
  );
  expect(options.filter((option) => !manual.includes(option))).toEqual([]);
});

test('docs/tool.md has every state of a VF', () => {
  const section =
    textOf('docs/tool.md')
      .split(/^## /m)
      .find((part) => part.startsWith('list\n')) ?? '';
  const rows = [...section.matchAll(/^\| ([a-z]+) \|/gm)].map(([, state]) => state);
  const states = [...(manuals['list']?.text ?? '').matchAll(/^ {2}([a-z]+) {2,}/gm)].map(
    ([, state]) => state,
  );
  expect(rows.filter((state) => state !== 'state')).toEqual(states);
});

test('docs/state.md has every field of a claim, and no other', () => {
  const named = rowsOf(textOf('docs/state.md'), 'A claim').flatMap((cell) => cell.split('`, `'));
  expect([...named, 'version'].sort()).toEqual(Object.keys(podClaimSchema.shape).sort());
});

describe.each([
  ['docs/podman.md', (options: Record<string, string>) => wishOfPodman({ name: 'n', options })],
  [
    'docs/docker.md',
    (options: Record<string, string>) => wishOfDocker({ version: 1, id: 'n', options, internal: false }),
  ],
])('%s', (path, understand) => {
  const section =
    textOf(path)
      .split(/^## /m)
      .find((part) => part.startsWith('Options\n')) ?? '';
  const cells = [...section.matchAll(/^\| (`.*?) \|/gm)].map(([, cell = '']) => cell);
  const named = cells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name = '']) => name));

  test('has every key', () => {
    expect(Object.keys(wishKeys).filter((key) => !named.includes(key))).toEqual([]);
  });

  test.each(named)('option %s is one', (name) => {
    const problem = () => {
      try {
        understand({ [name]: '?' });
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(problem()).not.toMatch(/no such option|did you mean/);
  });
});
