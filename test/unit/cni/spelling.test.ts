import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/cni/config.ts';
import { keys } from '../../../src/cni/cni-keys.ts';
import { parseRequest } from '../../../src/cni/request.ts';
import { multusConfig, strippedDel } from '../../support/recorded.ts';

const base = { cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID: '0000:03:02.0' };

function parse(config: object) {
  const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1' };
  return parseConfig(parseRequest('ADD', env, JSON.stringify({ ...base, ...config })));
}

/** What a key is refused with; undefined if it passes. */
function refusal(key: string): string | undefined {
  try {
    parse({ [key]: 1 });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** How people get a key wrong: every slip of the fingers at every place, and what they remember instead. */
const slips: Readonly<Record<string, (key: string) => string[]>> = {
  'a letter left out': (key) => places(key).map((i) => key.slice(0, i) + key.slice(i + 1)),
  'a letter twice': (key) => places(key).map((i) => key.slice(0, i + 1) + key.slice(i)),
  'another letter': (key) => places(key).map((i) => `${key.slice(0, i)}x${key.slice(i + 1)}`),
  'a letter too many': (key) => places(key).map((i) => `${key.slice(0, i)}q${key.slice(i)}`),
  'two letters swapped': (key) =>
    places(key)
      .slice(1)
      .map((i) => key.slice(0, i - 1) + (key[i] ?? '') + (key[i - 1] ?? '') + key.slice(i + 1)),
  'other joints': (key) => {
    const words = key.split(/_|(?<=[a-z])(?=[A-Z])/).map((word) => word.toLowerCase());
    const camel = words.map((word, i) => (i > 0 ? word.charAt(0).toUpperCase() + word.slice(1) : word));
    return [words.join('-'), words.join('_'), words.join('.'), camel.join('')];
  },
  'a word more': (key) => [
    ...['s', 'Id', 'ID', '_id', '-id', '_tag', 'Name', 'Value', 'Address', '_addr', 'Config', 'Mode'].map(
      (ending) => key + ending,
    ),
    ...['vf_', 'vf-', 'set_', 'the-', 'sriov_'].map((beginning) => beginning + key),
  ],
};

function places(key: string): number[] {
  return Array.from(key, (_, i) => i);
}

/** What is no misspelling: a key that somebody has, in any case. */
const real = new Set(
  [...Object.keys(keys), 'vfid', 'if0', 'master', 'l2enable', 'pfonly'].map((key) => key.toLowerCase()),
);

describe('every slip at every key of ours is refused, with the key that was meant', () => {
  const passing: string[] = [];
  test.each(Object.keys(slips))('%s', (slip) => {
    for (const key of Object.keys(keys)) {
      for (const wrong of slips[slip]?.(key) ?? []) {
        if (real.has(wrong.toLowerCase())) continue;
        const message = refusal(wrong);
        if (message === undefined) passing.push(wrong);
        else expect(message, wrong).toMatch(/did you mean "\w+"\?/);
      }
    }
  });

  test('but for those of two letters, of which little is left', () => {
    expect(passing.sort()).toEqual(['f', 'f', 'p', 'pqf', 'px', 'v', 'vqf', 'vx', 'xf', 'xf']);
  });
});

test.each([
  ['vlanId', 'vlan'],
  ['vlan_id', 'vlan'],
  ['vlanID', 'vlan'],
  ['VLAN_tag', 'vlan'],
  ['vlantag', 'vlan'],
  ['portVlan', 'vlan'],
  ['accessVlan', 'vlan'],
  ['vlan_qos', 'vlanQoS'],
  ['vlanPriority', 'vlanQoS'],
  ['qos', 'vlanQoS'],
  ['vlanProtocol', 'vlanProto'],
  ['trusted', 'trust'],
  ['trustMode', 'trust'],
  ['macAddress', 'mac'],
  ['mac_addr', 'mac'],
  ['macaddress', 'mac'],
  ['macc', 'mac'],
  ['hwMac', 'mac'],
  ['mtuu', 'mtu'],
  ['MTUSize', 'mtu'],
  ['spoof', 'spoofchk'],
  ['spoofCheck', 'spoofchk'],
  ['spoof_checking', 'spoofchk'],
  ['macspoofchk', 'spoofchk'],
  ['linkState', 'link_state'],
  ['link', 'link_state'],
  ['linkMode', 'link_state'],
  ['rate', 'max_tx_rate'],
  ['tx_rate', 'max_tx_rate'],
  ['rateLimit', 'max_tx_rate'],
  ['maxRate', 'max_tx_rate'],
  ['max_tx', 'max_tx_rate'],
  ['maxTxRateMbps', 'max_tx_rate'],
  ['minRate', 'min_tx_rate'],
  ['min_tx', 'min_tx_rate'],
  ['egressRate', 'max_tx_rate'],
  ['ipams', 'ipam'],
  ['ipamConfig', 'ipam'],
  ['dpdkMode', 'dpdk'],
  ['driverName', 'driver'],
  ['promiscMode', 'promisc'],
  ['promiscuous', 'promisc'],
  ['allmulticast', 'allmulti'],
  ['pfName', 'pf'],
  ['pfNames', 'pf'],
  ['vfIndex', 'vf'],
  ['pciAddress', 'deviceID'],
  ['deviceId2', 'deviceID'],
  ['capabilites', 'capabilities'],
  ['runtimeConfg', 'runtimeConfig'],
])('"%s" is taken for "%s"', (wrong, meant) => {
  expect(refusal(wrong)).toContain(`did you mean "${meant}"?`);
});

describe("what is somebody else's passes", () => {
  const silent = {
    ...multusConfig(base.deviceID),
    // the specification's, in any case, as Go's decoder takes them
    CNIVersion: '1.0.0',
    DNS: {},
    disableCheck: true,
    disableGC: true,
    cniVersions: ['1.0.0'],
    loadOnlyInlinedPlugins: false,
    'cni.dev/valid-attachments': [],
    // the ancestors'
    if0: 'x',
    if0name: 'net1',
    master: 'x',
    l2enable: false,
    VFID: 1,
    deviceinfo: {},
    cniDir: '/x',
    OrigVfState: {},
  };
  test.each(Object.keys(silent))('without a word: %s', (key) => {
    const { warnings } = parse({ [key]: silent[key as keyof typeof silent] });
    expect(warnings).toEqual([]);
  });
  test('a stripped DEL', () => expect(parse(strippedDel(undefined)).warnings).toEqual([]));

  // Keys of neighbouring plugins, of metadata, and words that only look like ours.
  test.each([
    'bridge',
    'isGateway',
    'ipMasq',
    'hairpinMode',
    'mode',
    'vrf',
    'table',
    'sysctl',
    'description',
    'comment',
    '_comment',
    '//',
    'color',
    'labels',
    'annotations',
    'kubeconfig',
    'delegates',
    'provider',
    'namespace',
    'pkey',
    'guid',
    'rdmaIsolation',
    'ibKubernetesEnabled',
    'hwaddr',
    'kernelpath',
    'name2',
    'policyRoutes',
    'machine',
    'machineName',
    'macro',
    'generate',
    'migrate',
    'separate',
    'logToStderr',
    'logOptions',
    'ips',
    'nodeName',
    'forceAddress',
    'portMappings',
    'cluster',
    'site',
    'rack',
    'owner',
    'team',
    'version',
    'id',
    'uuid',
    'numaNode',
    'group',
  ])('with a line in the log: %s', (key) => {
    expect(parse({ [key]: 1 }).warnings).toEqual([`keys that are not ours: ${key}`]);
  });
});

describe('however many unknown keys there are', () => {
  test('only the first 50 are looked at, and the line stays short', () => {
    const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`x${i}`, 1]));
    const [warning] = parse(many).warnings;
    expect(warning).toMatch(/^keys that are not ours: x0, x1, .*, x49 and others$/);
    expect(refusal('x'.repeat(1_000_000))).toBeUndefined();
    expect(parse({ ['x'.repeat(1_000_000)]: 1 }).warnings.join().length).toBeLessThan(200);
  });

  test('a misspelt one is found behind 49 others', () => {
    const many = Object.fromEntries(Array.from({ length: 49 }, (_, i) => [`x${i}`, 1]));
    expect(() => parse({ ...many, vlanId: 5 })).toThrow('did you mean "vlan"?');
  });

  test('many of ours that are wrong make one short message', () => {
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`vlan${i}`, 'x'.repeat(10_000)]));
    expect(() => parse(many)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{1,4096}$/s) as string }),
    );
  });
});
