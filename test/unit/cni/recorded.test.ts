import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/cni/config.ts';
import { type Command, parseRequest } from '../../../src/cni/request.ts';
import { formatVersion, supportedVersions } from '../../../src/cni/versions.ts';
import * as recorded from '../../support/recorded.ts';

const pci = '0000:03:02.0';
const env = {
  CNI_CONTAINERID: recorded.containerId,
  CNI_NETNS: '/var/run/netns/cni-35d8d636-2700-831a-dcf7-1076802d008a',
  CNI_IFNAME: 'net1',
  CNI_PATH: recorded.multusPath,
};

function permutations<T>(list: readonly T[]): T[][] {
  if (list.length < 2) return [[...list]];
  return list.flatMap((item, at) => permutations(list.toSpliced(at, 1)).map((rest) => [item, ...rest]));
}

describe('ADD as runtimes send it', () => {
  const parse = (config: object, cniArgs: string) =>
    parseConfig(parseRequest('ADD', { ...env, CNI_ARGS: cniArgs }, JSON.stringify(config)));
  const pool = { cniVersion: '1.0.0', name: 'pods', type: 'sriov', pf: 'ens1f0' };

  test('containerd: CNI_ARGS in each of 120 orders', () => {
    for (const args of permutations(recorded.containerdArgs))
      expect(parse(pool, args.join(';'))).toMatchObject({ pod: 'shop/web-0', settings: { mac: undefined } });
  });

  test('ctr: CNI_ARGS is empty', () => {
    expect(parse(pool, '')).toMatchObject({ pod: undefined, device: { kind: 'pool' } });
  });

  test('podman: a MAC and an address in CNI_ARGS', () => {
    expect(parse(pool, recorded.podmanArgs)).toMatchObject({ settings: { mac: recorded.mac }, pod: 'a/a' });
  });

  test("Multus: keys twice in CNI_ARGS, the device's address three times", () => {
    const conf = parse(recorded.multusConfig(pci), recorded.multusArgs);
    expect(conf).toMatchObject({
      device: { kind: 'vf', pci },
      settings: { mac: recorded.mac, vlan: { id: 100, qos: 0, proto: '802.1q' } },
      hasIpam: true,
      deviceInfoFile: recorded.deviceInfoFile,
      pod: 'shop/web-0',
      notes: [],
    });
  });

  test('containerd with the capability io.kubernetes.cri.pod-annotations', () => {
    const annotations = { 'io.kubernetes.cri.pod-annotations': { 'example.com/a': 'b' } };
    const config = {
      ...pool,
      capabilities: { 'io.kubernetes.cri.pod-annotations': true },
      runtimeConfig: annotations,
    };
    expect(parse(config, recorded.containerdArgs.join(';')).notes).toEqual([]);
  });
});

describe('requests without a pod', () => {
  test.each<[string, Command, Record<string, string>, object]>([
    ['DEL with an empty CNI_NETNS', 'DEL', { ...env, CNI_NETNS: '' }, recorded.multusConfig(pci)],
    ['DEL that lost its keys', 'DEL', env, recorded.strippedDel({ cniVersion: '1.0.0', ips: [] })],
    ['STATUS without attachment', 'STATUS', { CNI_PATH: '/opt/cni/bin' }, { ...recorded.multusConfig('') }],
    ...Object.entries(recorded.gcConfigs).map(
      ([who, config]): [string, Command, Record<string, string>, object] => [
        `GC of ${who}`,
        'GC',
        { CNI_PATH: '/opt/cni/bin' },
        config,
      ],
    ),
  ])('%s is understood', (_, command, variables, config) => {
    expect(parseRequest(command, variables, JSON.stringify(config)).config).toEqual(config);
  });

  test('VERSION', () => {
    expect(JSON.parse(formatVersion('{"cniVersion":"1.0.0"}'))).toEqual({
      cniVersion: '1.0.0',
      supportedVersions,
    });
  });
});
