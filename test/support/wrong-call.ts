import { type FuzzedCall, rightCall } from './fuzz.ts';
import type { Random } from './random.ts';

/** An ADD of which it is known what is wrong with it. */
export interface JudgedCall extends FuzzedCall {
  readonly wrong: readonly Wrong[];
}

/** One thing that is wrong, and the code that says so. */
interface Wrong {
  readonly code: number;
  readonly what: string;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A call in parts, before it is put together. */
interface Parts {
  readonly env: Record<string, string>;
  readonly config: { [key: string]: Json };
  stdin?: string;
}

type Spoil = (parts: Parts, random: Random) => Wrong;

const variable =
  (code: number, name: string, ...values: string[]): Spoil =>
  ({ env }, random) => {
    const value = random.pick(values);
    env[name] = value;
    return { code, what: `${name}=${JSON.stringify(value)}` };
  };

const key =
  (code: number, name: string, ...values: Json[]): Spoil =>
  ({ config }, random) => {
    const value = random.pick(values);
    config[name] = value;
    return { code, what: `${name}: ${JSON.stringify(value)}` };
  };

const broken: Spoil = (parts, random) => {
  const text = JSON.stringify(parts.config);
  parts.stdin = random.pick([
    text.slice(0, random.below(text.length)),
    `${text}}`,
    `[${text}]`,
    'null',
    '"sriov"',
    `{"a":\u0001}${text}`,
  ]);
  return { code: 6, what: 'stdin' };
};

/** What the parser sees, wherever it runs. Codes: SPEC.md "Well-known Error Codes" and README. */
const spoils: readonly Spoil[] = [
  variable(4, 'CNI_COMMAND', '', 'add', 'DELETE', 'ADD ', 'ÀDD'),
  variable(4, 'CNI_CONTAINERID', '', '../a', '-a', 'a b', 'é', '\u001b[2J'),
  variable(4, 'CNI_NETNS', ''),
  variable(
    4,
    'CNI_IFNAME',
    '',
    '.',
    '..',
    'a/b',
    'a:b',
    'a b',
    'seventeen-letters',
    'net%d',
    'ł1',
    'é',
    '网',
    'all',
    'default',
    '\u001b[2J',
  ),
  variable(4, 'CNI_ARGS', '=', 'x', 'A=B', 'MAC=02:00:00:00:00:01;é=1', 'K8S_POD_NAME'),
  broken,
  key(7, 'name', '', '../x', 'é', 'a b', 5, null),
  key(1, 'cniVersion', '9.9.9', '1', 'x', 5),
  key(7, 'vlan', -1, 4095, 1.5, 'x', true, [1], {}),
  key(7, 'vlanQoS', -1, 8, 1.5, 'high'),
  key(7, 'vlanProto', '802.1x', 5, true),
  key(7, 'mac', '02:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00', 'é', 5, [
    '02:00:00:00:00:01',
  ]),
  key(7, 'spoofchk', 'yes', 1, true, {}),
  key(7, 'trust', 'ON', 0, false, []),
  key(7, 'link_state', 'up', 'down', 1),
  key(7, 'min_tx_rate', -1, 1.5, 'x', 2 ** 40),
  key(7, 'max_tx_rate', -1, 1.5, true, 2 ** 32),
  key(7, 'mtu', 0, 67, 65_536, 1.5, 'big'),
  key(7, 'dpdk', 'yes', 5, [], { driver: 'x' }, { drivers: 'vfio-pci' }),
  key(7, 'logFormat', 'xml', 5),
  ...['vlanId', 'vlan_id', 'VLAN_tag', 'trusted', 'macAddress', 'macc', 'mtuu', 'spoofcheck', 'maxTxRat'].map(
    (name) => key(7, name, 1),
  ),
];

/** What only shows on the node of the lab. */
const spoilsOnNode: readonly Spoil[] = [
  variable(3, 'CNI_NETNS', '/run/netns/none', '/run/netns/é', '/etc/passwd/x'),
  variable(8, 'CNI_NETNS', '/etc/passwd', '/proc/self/ns/mnt', '/proc/self/ns/net', '/proc/1/ns/net'),
  key(4, 'ipam', { type: 'missing' }, { type: 'hôte-local' }, { type: '\u001b[2J' }),
  ({ env, config }, random) => {
    env['CNI_PATH'] = random.pick(['', '/none', ':::', '/opt/çni/bin', '/opt/cni/bin\u0007']);
    config['ipam'] = { type: 'static', addresses: [{ address: '10.1.0.5/24' }] };
    return { code: 4, what: `CNI_PATH=${JSON.stringify(env['CNI_PATH'])} with an ipam` };
  },
  ({ config }, random) => {
    delete config['pf'];
    config['deviceID'] = random.pick(['0000:99:00.0', '0000:01:00.0', '0000:01:11.0']);
    return { code: 100, what: `deviceID: ${config['deviceID']}` };
  },
  ({ config }) => {
    Object.assign(config, { vlan: 5, vlanProto: '802.1ad' });
    return { code: 2, what: '802.1ad, which igb does not know' };
  },
  key(2, 'min_tx_rate', 5),
  key(2, 'link_state', 'enable', 'disable'),
];

/** A right ADD with up to two things made wrong. */
export function judgedCall(random: Random, isOnNode: boolean): JudgedCall {
  const { env, stdin } = rightCall(random);
  const parts: Parts = { env: { ...env }, config: JSON.parse(stdin) as Parts['config'] };
  const wrong = Array.from({ length: random.below(3) }, () =>
    random.pick(isOnNode ? [...spoils, ...spoilsOnNode] : spoils)(parts, random),
  );
  return { env: parts.env, stdin: parts.stdin ?? JSON.stringify(parts.config), wrong };
}

/** What is wrong with the code that a call ended with; undefined if it says one of the things that are wrong. 0 is success. */
export function misjudgement({ wrong }: JudgedCall, code: number): string | undefined {
  const fitting = wrong.length === 0 ? [0] : wrong.map((one) => one.code);
  if (fitting.includes(code)) return undefined;
  const made = wrong.map(({ what }) => what).join(' and ') || 'nothing wrong';
  return `code ${code} for ${made}: expected ${fitting.join(' or ')}`;
}
