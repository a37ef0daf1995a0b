import * as z from 'zod/mini';
import { userspaceDrivers } from '../dpdk/driver.ts';
import { logLevels } from '../kernel/log.ts';
import { parsePci } from '../vf/inventory.ts';
import { parsePfSelector, type PfSelector } from '../vf/pool.ts';
import type { Wish } from './wish.ts';

/** "02:00:00:00:00:01" from any usual notation (colons, dashes, dots, none); undefined for anything but a unicast MAC. */
export function parseMac(text: string): string | undefined {
  const notations = [
    /^(..):(..):(..):(..):(..):(..)$/,
    /^(..)-(..)-(..)-(..)-(..)-(..)$/,
    /^(....)\.(....)\.(....)$/,
    /^(............)$/,
  ];
  const digits = notations
    .map((notation) => notation.exec(text)?.slice(1).join('').toLowerCase())
    .find(Boolean);
  if (!digits || !/^[0-9a-f]{12}$/.test(digits) || /^0+$/.test(digits)) return undefined;
  const isMulticast = Number.parseInt(digits.slice(0, 2), 16) & 1;
  return isMulticast ? undefined : digits.replace(/..(?!$)/g, '$&:');
}

/** Text that a function understands. */
function parsed(parse: (text: string) => string | undefined) {
  const transform = z.transform((text: string, payload) => {
    const value = parse(text);
    if (value === undefined) payload.issues.push({ code: 'custom', input: text });
    return value ?? '';
  });
  return z.pipe(z.string(), transform);
}

function toPfSelectors(value: string | string[], payload: z.core.ParsePayload): PfSelector[] {
  const selectors = [value].flat().flatMap((text) => parsePfSelector(text) ?? []);
  if (selectors.length === 0 || selectors.length < [value].flat().length)
    payload.issues.push({ code: 'custom', input: value });
  return selectors;
}

function toAddresses(value: string[], payload: z.core.ParsePayload): string[] {
  const addresses = value.flatMap((text) => parsePci(text) ?? []);
  if (addresses.length === 0 || addresses.length < value.length)
    payload.issues.push({ code: 'custom', input: value });
  return [...new Set(addresses)];
}

/** One key of ours: what it may hold, and how a message says so. `mayBeEmpty`: "" means absent, as for the Go plugin. */
export interface Key {
  readonly schema: z.ZodMiniType;
  readonly allowed: string;
  readonly mayBeEmpty?: true;
}

const onOff = { schema: z.enum(['on', 'off']), allowed: '"on" or "off"', mayBeEmpty: true } as const;
const yesOrNo = { schema: z.boolean(), allowed: 'true or false' } as const;
const rate = {
  schema: z.int().check(z.gte(0), z.lte(0xffffffff)),
  allowed: 'Mbps as a whole number, 0 for no limit',
} as const;
export const mac = {
  schema: parsed(parseMac),
  allowed: 'a unicast MAC address such as "02:00:00:00:00:01"',
  mayBeEmpty: true,
} as const;
export const pciAddress = {
  schema: parsed(parsePci),
  allowed: 'the PCI address of a VF such as "0000:03:02.0"',
  mayBeEmpty: true,
} as const;

/** Every key by which a network says what it wants, whatever door it comes through. */
export const keys = {
  deviceID: pciAddress,
  pf: {
    schema: z.pipe(z.union([z.string(), z.array(z.string())]), z.transform(toPfSelectors)),
    allowed: 'a PF\'s name or PCI address, "ens1f0#0-3,7" for some of its VFs, or a list of these',
    mayBeEmpty: true,
  },
  devices: {
    schema: z.pipe(z.array(z.string()), z.transform(toAddresses)),
    allowed: 'a list of PCI addresses of VFs or NICs, such as ["0000:02:00.0", "0000:03:00.0"]',
  },
  vf: { schema: z.int().check(z.gte(0), z.lte(65_535)), allowed: 'the index of a VF: a whole number from 0' },
  driver: {
    schema: z.pipe(
      z.union([z.string(), z.array(z.string())]),
      z.transform((value) => [value].flat()),
    ),
    allowed: 'the name of a driver, or a list of them',
    mayBeEmpty: true,
  },
  dpdk: {
    schema: z.union([
      z.boolean(),
      z.strictObject({ driver: z.optional(z.enum(userspaceDrivers)), force: z.optional(z.boolean()) }),
    ]),
    allowed: `true, false or an object with "driver" (${userspaceDrivers.join(', ')}) and "force" (true, false)`,
  },
  rdma: { schema: z.boolean(), allowed: 'true or false' },
  vlan: { schema: z.int().check(z.gte(0), z.lte(4094)), allowed: 'a whole number from 0 to 4094' },
  vlanQoS: { schema: z.int().check(z.gte(0), z.lte(7)), allowed: 'a whole number from 0 to 7' },
  vlanProto: {
    schema: z.pipe(
      z.string(),
      z.pipe(
        z.transform((text: string) => text.toLowerCase()),
        z.enum(['802.1q', '802.1ad']),
      ),
    ),
    allowed: '"802.1q" or "802.1ad"',
  },
  mac,
  spoofchk: onOff,
  trust: onOff,
  link_state: {
    schema: z.enum(['auto', 'enable', 'disable']),
    allowed: '"auto", "enable" or "disable"',
    mayBeEmpty: true,
  },
  min_tx_rate: rate,
  max_tx_rate: rate,
  mtu: { schema: z.int().check(z.gte(68), z.lte(65_535)), allowed: 'a whole number from 68 to 65535' },
  promisc: yesOrNo,
  allmulti: yesOrNo,
  reset: yesOrNo,
  logLevel: { schema: z.string(), allowed: logLevels.join(', '), mayBeEmpty: true },
  logFile: { schema: z.string(), allowed: 'a path below /var/log', mayBeEmpty: true },
  logFormat: { schema: z.enum(['text', 'json']), allowed: '"text" or "json"', mayBeEmpty: true },
} as const satisfies Record<string, Key>;

type KeyName = keyof typeof keys;
/** What the keys of a network hold, understood. */
export type Values = {
  -readonly [K in KeyName]?: z.output<(typeof keys)[K]['schema']> | undefined;
};

/** What the kernel would take, but what can only be a mistake, or what the Go plugin refuses, too. */
export function conflictsOf(values: Values): { readonly key: KeyName; readonly problem: string }[] {
  const { vlan, vlanQoS, vlanProto, min_tx_rate: min, max_tx_rate: max } = values;
  const found: { key: KeyName; problem: string }[] = [];
  const refuse = (key: KeyName, problem: string) => found.push({ key, problem });
  if (vlan === undefined) {
    if (vlanQoS !== undefined) refuse('vlanQoS', 'it needs "vlan"');
    if (vlanProto !== undefined) refuse('vlanProto', 'it needs "vlan"');
  } else if (vlan === 0) {
    if (vlanQoS) refuse('vlanQoS', '"vlan" 0 means no VLAN: it must be 0, too');
    if (vlanProto === '802.1ad') refuse('vlanProto', '"vlan" 0 means no VLAN');
  }
  if (min && max && min > max) refuse('min_tx_rate', `it is more than "max_tx_rate": ${max}`);
  if (values.pf && values.devices)
    refuse('devices', 'a pool is a list of devices or those of "pf", not both');
  if (values.pf === undefined) {
    if (values.vf !== undefined) refuse('vf', 'it needs "pf"');
    if (values.driver !== undefined && values.devices === undefined)
      refuse('driver', 'it needs "pf" or "devices"');
  }
  return found;
}

/** The part of a wish that keys say. */
export type Asked = 'dpdk' | 'rdma' | 'settings' | 'minTxRate' | 'maxTxRate' | 'mtu' | 'modes' | 'reset';

/** What the keys ask of the VF and its PF. */
export function askedBy(values: Values): Pick<Wish, Asked> {
  const { vlan, vlanQoS = 0, vlanProto = '802.1q', spoofchk, trust, link_state: linkState } = values;
  const { promisc, allmulti } = values;
  return {
    dpdk: values.dpdk === true ? {} : values.dpdk || undefined,
    rdma: values.rdma,
    settings: {
      mac: values.mac,
      vlan: vlan === undefined ? undefined : { id: vlan, qos: vlanQoS, proto: vlanProto },
      spoofchk: spoofchk && spoofchk === 'on',
      linkState,
      trust: trust && trust === 'on',
    },
    minTxRate: values.min_tx_rate,
    maxTxRate: values.max_tx_rate,
    mtu: values.mtu,
    modes: promisc === undefined && allmulti === undefined ? undefined : { promisc, allmulti },
    reset: values.reset,
  };
}
