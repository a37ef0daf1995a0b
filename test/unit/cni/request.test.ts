import { describe, expect, test } from 'vitest';
import { type Command, parseCniArgs, parseCommand, parseRequest } from '../../../src/cni/request.ts';
import { parseResult, toIpConfig } from '../../../src/cni/result.ts';
import {
  answeredVersion,
  formatVersion,
  parseVersion,
  supportedVersions,
} from '../../../src/cni/versions.ts';

const full = {
  CNI_CONTAINERID: 'c-1',
  CNI_NETNS: '/run/netns/c',
  CNI_IFNAME: 'net1',
  CNI_PATH: '/opt/cni/bin',
};
const stdin = '{"cniVersion":"1.1.0","name":"net"}';

test.each(['', 'add', 'EXPLODE'])('parseCommand() refuses %j with code 4', (command) => {
  expect(() => parseCommand({ CNI_COMMAND: command })).toThrow(expect.objectContaining({ code: 4 }));
});

describe('which command needs which variable', () => {
  test.each<[Command, string[]]>([
    ['ADD', ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME']],
    ['CHECK', ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME']],
    ['DEL', ['CNI_CONTAINERID', 'CNI_IFNAME']],
    ['GC', ['CNI_PATH']],
    ['STATUS', []],
  ])('%s: %j', (command, needed) => {
    expect(parseRequest(command, full, stdin).command).toBe(command);
    const problem = needed.map((name) => `${name} is not set`).join('; ');
    const call = () => parseRequest(command, {}, stdin);
    if (needed.length === 0) expect(call().attachment.netns).toBe('');
    else
      expect(call).toThrow(
        expect.objectContaining({ code: 4, message: `Invalid environment for ${command}: ${problem}` }),
      );
  });
});

test.each([
  ['CNI_CONTAINERID', '../x'],
  ['CNI_CONTAINERID', 'a b'],
  ['CNI_IFNAME', '.'],
  ['CNI_IFNAME', 'a/b'],
  ['CNI_IFNAME', 'a:b'],
  ['CNI_IFNAME', 'sixteen-letters-'],
  ['CNI_IFNAME', 'éééééééé'],
  // Latin-1 would make another name of these on the wire: "B1" of the first.
  ['CNI_IFNAME', 'ł1'],
  ['CNI_IFNAME', 'é'],
  ['CNI_IFNAME', 'net\u0001'],
  ['CNI_IFNAME', 'net\u007f'],
  // A pattern to the kernel (dev_alloc_name), and two folders of /proc/sys/net/ipv4/conf.
  ['CNI_IFNAME', 'net%d'],
  ['CNI_IFNAME', '100%'],
  ['CNI_IFNAME', 'all'],
  ['CNI_IFNAME', 'default'],
])('%s=%j is refused with code 4', (name, value) => {
  expect(() => parseRequest('ADD', { ...full, [name]: value }, stdin)).toThrow(
    expect.objectContaining({ code: 4 }),
  );
});

test.each(['ł1', 'net%d', 'all'])(
  'but DEL of %j, which an older version may have attached, is not',
  (ifname) => {
    expect(parseRequest('DEL', { ...full, CNI_IFNAME: ifname }, stdin).attachment.ifname).toBe(ifname);
    expect(() => parseRequest('DEL', { ...full, CNI_IFNAME: '../x' }, stdin)).toThrow(
      expect.objectContaining({ code: 4 }),
    );
  },
);

test('a value of 100 KB does not come back whole', () => {
  const long = 'x'.repeat(100_000);
  const calls = [
    () => parseCommand({ CNI_COMMAND: long }),
    () => parseRequest('ADD', { ...full, CNI_IFNAME: long, CNI_CONTAINERID: `/${long}` }, stdin),
    () => parseRequest('ADD', full, JSON.stringify({ name: `/${long}` })),
    () => parseRequest('ADD', full, long),
    () => parseVersion(long),
    () => parseCniArgs(long),
    () => parseResult({ ips: [{ address: 5 }, { address: long }] }, '1.0.0', 'x'),
    () => toIpConfig({ ips: [{ address: long }], routes: [] }, 'x'),
    () => toIpConfig({ ips: [], routes: [{ dst: '10.0.0.0/8', gw: long }] }, 'x'),
  ];
  for (const call of calls)
    expect(call).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{10,900}$/s) as string }),
    );
});

test.each([
  ['', 6],
  ['{', 6],
  ['[]', 6],
  ['null', 6],
  ['"x"', 6],
  ['{}', 7],
  ['{"name":""}', 7],
  ['{"name":"../x"}', 7],
  ['{"name":5}', 7],
])('stdin %j is refused with code %i', (text, code) => {
  expect(() => parseRequest('ADD', full, text)).toThrow(expect.objectContaining({ code }));
});

test.each([
  ['{"name":"n"}', '0.1.0'],
  ['{"name":"n","cniVersion":""}', '0.1.0'],
  ['{"name":"n","cniVersion":null}', '0.1.0'],
  ['{"name":"n","cniVersion":"0.4.0"}', '0.4.0'],
  ['{"name":"n","cniVersion":"9.9.9"}', '1.1.0'],
  ['[]', '1.1.0'],
  ['null', '1.1.0'],
  ['{', '1.1.0'],
])('an error about %j is one of version %s', (text, version) => {
  expect(answeredVersion(text)).toBe(version);
});

describe('versions', () => {
  test.each(supportedVersions)('%s is supported', (version) => expect(parseVersion(version)).toBe(version));
  test('a configuration without one is 0.1.0', () => expect(parseVersion(undefined)).toBe('0.1.0'));
  test.each(['1.2.0', '1.0', 1, {}])('%j is refused with code 1, naming those that are', (version) => {
    expect(() => parseVersion(version)).toThrow(
      expect.objectContaining({ code: 1, details: expect.stringContaining('1.1.0') as string }),
    );
  });
  test.each([
    ['{"cniVersion":"0.4.0"}', '0.4.0'],
    ['{"cniVersion":"9.9.9"}', '1.1.0'],
    ['', '1.1.0'],
    ['null', '1.1.0'],
    ['{}', '1.1.0'],
  ])('VERSION answers %j with %s', (text, version) => {
    expect(JSON.parse(formatVersion(text))).toEqual({ cniVersion: version, supportedVersions });
  });
});
