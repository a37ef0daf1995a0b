import * as z from 'zod/mini';
import { askedBy, conflictsOf, type Key, mac } from '../attach/keys.ts';
import type { BondWish, Device, Wish } from '../attach/wish.ts';
import { isIfname } from '../kernel/ifname.ts';
import { bondOf } from './bond-key.ts';
import { foreignKeys, keys, meantKey } from './cni-keys.ts';
import { quoted, shorten } from '../kernel/printable.ts';
import { CniError, Code } from './errors.ts';
import { modernize } from './legacy.ts';
import { parseCniArgs, type Request } from './request.ts';
import { type CniVersion, parseVersion } from './versions.ts';

/** A network configuration, understood and checked. */
export interface NetConf extends Wish {
  readonly cniVersion: CniVersion;
  /** An IPAM plugin is asked for addresses. */
  readonly hasIpam: boolean;
  /** What an operator should know, for the log. */
  readonly notes: readonly string[];
  /** What will not be as its author may think, for the log. */
  readonly warnings: readonly string[];
}

type Values = { -readonly [K in keyof typeof keys]?: z.output<(typeof keys)[K]['schema']> };

/** Collects everything that is wrong, so that an author mends it in one go. */
class Problems {
  readonly #found: string[] = [];

  add(key: string, value: unknown, problem: string): void {
    this.#found.push(`"${key}": ${quoted(value)} is not allowed: ${problem}`);
  }

  /** @throws CniError 7 */
  throwIfAny(): void {
    if (this.#found.length > 0)
      throw new CniError(Code.InvalidConfig, `Invalid network configuration: ${this.#found.join('; ')}`);
  }
}

type OwnKey = keyof typeof keys;

const byLowerCase = new Map(Object.keys(keys).map((key) => [key.toLowerCase(), key as OwnKey]));
const foreign = new Set(foreignKeys.map((key) => key.toLowerCase()));

/**
 * Unknown keys are compared with ours, which takes time: a configuration of a megabyte has no more of
 * it than any other.
 */
const maxUnknownKeys = 50;
const maxKeyLength = 40;

/**
 * Picks our keys: in any case, as Go's decoder does; null and, where the Go plugin does so, "" mean
 * absent.
 */
function ownKeys(
  config: Request['config'],
  problems: Problems,
): { given: Map<OwnKey, unknown>; unknown: string[] } {
  const given = new Map<OwnKey, unknown>();
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(config)) {
    const key = byLowerCase.get(name.toLowerCase());
    if (key === undefined) {
      if (foreign.has(name.toLowerCase()) || name.startsWith('cni.dev/')) continue;
      if (unknown.length <= maxUnknownKeys) unknown.push(name);
      continue;
    }
    if (value === null || (value === '' && (keys[key] as Key).mayBeEmpty)) continue;
    if (given.has(key)) problems.add(name, value, `"${key}" is given twice`);
    given.set(key, value);
  }
  return { given, unknown };
}

/** Refuses what is a key of ours misspelt; what is left is worth a warning. */
function checkUnknown(config: Request['config'], unknown: readonly string[], problems: Problems): string[] {
  const nobodys: string[] = [];
  for (const name of unknown.slice(0, maxUnknownKeys)) {
    const meant = name.length > maxKeyLength ? undefined : meantKey(name);
    if (meant) problems.add(name, config[name], `did you mean "${meant}"?`);
    else nobodys.push(shorten(name, maxKeyLength));
  }
  if (nobodys.length === 0) return [];
  const more = unknown.length > maxUnknownKeys ? ' and others' : '';
  return [`keys that are not ours: ${nobodys.join(', ')}${more}`];
}

function parseKeys(given: ReadonlyMap<OwnKey, unknown>, problems: Problems): Values {
  const values: Record<string, unknown> = {};
  for (const [key, value] of given) {
    const { schema, allowed }: Key = keys[key];
    const result = schema.safeParse(value);
    if (result.success) values[key] = result.data;
    else problems.add(key, value, `must be ${allowed}`);
  }
  return values;
}

const text = z.optional(z.nullable(z.string()));
const rateBits = z.optional(z.nullable(z.number().check(z.gte(0))));
/** What a runtime fills in for the capabilities that a network declares. */
const runtimeConfigSchema = z.lazy(() =>
  z.looseObject({
    mac: text,
    deviceID: text,
    CNIDeviceInfoFile: text,
    bandwidth: z.optional(z.nullable(z.looseObject({ ingressRate: rateBits, egressRate: rateBits }))),
  }),
);
type RuntimeConfig = z.infer<typeof runtimeConfigSchema>;

const argsSchema = z.looseObject({ cni: z.optional(z.nullable(z.looseObject({ mac: text }))) });

function parsePart<T extends z.ZodMiniType>(
  config: Request['config'],
  key: string,
  schema: T,
  problems: Problems,
): Partial<z.output<T>> {
  const result = schema.safeParse(config[key] ?? {});
  if (result.success) return result.data;
  const where = result.error.issues.map((issue) => [key, ...issue.path].join('.')).join(', ');
  problems.add(key, config[key], `${where} has the wrong type`);
  return {};
}

/**
 * The MAC that was asked for: the runtime's word counts more than the pod's (args, CNI_ARGS), and that
 * more than the network's.
 */
function chooseMac(
  sources: Readonly<Record<string, string | null | undefined>>,
  own: string | undefined,
  problems: Problems,
): string | undefined {
  for (const [source, given] of Object.entries(sources)) {
    if (!given) continue;
    const result = mac.schema.safeParse(given);
    if (!result.success) problems.add(source, given, `must be ${mac.allowed}`);
    return result.data;
  }
  return own;
}

/**
 * A pod's wish for bandwidth as the VF's limit: what the pod sends. The smaller of pod's and network's
 * wish wins.
 */
function limitRate(
  maxTxRate: number | undefined,
  { bandwidth }: RuntimeConfig,
  warnings: string[],
): number | undefined {
  if (bandwidth?.ingressRate)
    warnings.push('"bandwidth": what a pod receives cannot be limited on a VF: ingressRate is ignored');
  if (!bandwidth?.egressRate) return maxTxRate;
  const asked = Math.ceil(bandwidth.egressRate / 1_000_000);
  return maxTxRate ? Math.min(asked, maxTxRate) : asked;
}

/**
 * Keys of CNI_ARGS that need no IgnoreUnknown: ours, our ancestors', the IPAM plugins', and those that
 * every Kubernetes runtime sends.
 */
const knownArgs = /^(IgnoreUnknown|MAC|VF|VLAN|IP|SUBNET|GATEWAY|K8S_.*)$/;

function checkCniArgs(cniArgs: ReadonlyMap<string, string>): void {
  if (['1', 'true', 'True', 'TRUE'].includes(cniArgs.get('IgnoreUnknown') ?? '')) return;
  const unknown = [...cniArgs.keys()].filter((key) => !knownArgs.test(key));
  if (unknown.length > 0) {
    throw new CniError(
      Code.InvalidEnvironment,
      `Invalid CNI_ARGS: unknown keys ${shorten(unknown.join(', '), 200)} (IgnoreUnknown=1 lets them pass)`,
    );
  }
}

function deviceOf(
  values: Values,
  runtimeConfig: RuntimeConfig,
  wholePf: boolean,
  problems: Problems,
): Device | undefined {
  const injected = keys.deviceID.schema.safeParse(runtimeConfig.deviceID ?? '');
  const pci = values.deviceID ?? values.pciBusID ?? (injected.success ? injected.data : undefined);
  const { pf: pfs, devices, vf: index, driver: drivers } = values;
  if (pci !== undefined) return { kind: 'vf', pci };
  const needsRdma = values.rdma;
  if (devices !== undefined) return { kind: 'pool', pool: { pfs: [], devices, drivers, needsRdma } };
  if (pfs === undefined) return undefined;
  if (!wholePf) return { kind: 'pool', pool: { pfs, index, drivers, needsRdma } };
  const [only, another] = pfs;
  if (!only || another || only.ranges) problems.add('pf', pfs, '"pfOnly" takes one PF');
  return { kind: 'pf', pf: only?.pf ?? '' };
}

/** A bond has two devices of its own, for the kernel to drive. */
function bondWish(
  { bond, dpdk, rdma, ...others }: Values,
  device: Device | undefined,
  problems: Problems,
): BondWish | undefined {
  if (!bond) return undefined;
  const refuse = (problem: string) => problems.add('bond', bond, problem);
  const given = (['pf', 'devices'] as const).find((key) => others[key] !== undefined);
  if (device || given)
    refuse(`its two VFs come from its own "pfs" or "devices", and "${given ?? 'deviceID'}" is given as well`);
  if (dpdk) refuse('a VF for a process ("dpdk") has no interface that a bond could be made of');
  if (rdma) refuse('what uses an RDMA device ("rdma") goes past the bond');
  return bondOf(bond, refuse);
}

/**
 * Understands the network configuration of a request and refuses what is wrong in it, before anything
 * is changed.
 * @throws CniError 1, 4, 7
 */
export function parseConfig(request: Request): NetConf {
  const cniVersion = parseVersion(request.config['cniVersion']);
  const cniArgs = parseCniArgs(request.attachment.cniArgs);
  checkCniArgs(cniArgs);
  const problems = new Problems();
  const { config, podIfname, wholePf = false, notes } = modernize(request.config, cniArgs);
  const { given, unknown } = ownKeys(config, problems);
  const warnings = checkUnknown(config, unknown, problems);
  const values = parseKeys(given, problems);
  for (const { key, problem } of conflictsOf(values)) problems.add(key, given.get(key), problem);

  const runtimeConfig = parsePart(config, 'runtimeConfig', runtimeConfigSchema, problems);
  const args = parsePart(config, 'args', argsSchema, problems);
  const macs = {
    'runtimeConfig.mac': runtimeConfig.mac,
    'args.cni.mac': args.cni?.mac,
    'MAC of CNI_ARGS': cniArgs.get('MAC'),
  };
  const chosenMac = chooseMac(macs, values.mac, problems);
  if (podIfname && !isPodIfname(podIfname))
    problems.add('if0name', podIfname, 'must be an interface name other than lo, eth0 and eth1');
  const device = deviceOf(values, runtimeConfig, wholePf, problems);
  if (wholePf && (chosenMac ?? values.vlan))
    problems.add('pfOnly', true, 'a PF that goes into a pod takes no MAC and no VLAN');
  const bond = bondWish(values, device, problems);
  const asked = askedBy({ ...values, mac: chosenMac });
  if (wholePf && asked.dpdk) problems.add('pfOnly', true, '"dpdk" takes a VF');
  problems.throwIfAny();

  return {
    ...asked,
    maxTxRate: limitRate(asked.maxTxRate, runtimeConfig, warnings),
    cniVersion,
    network: config['name'] as string,
    device,
    bond,
    podIfname: (podIfname as string | undefined) || request.attachment.ifname,
    pluginPath: request.attachment.cniPath,
    hasIpam: Boolean(values.ipam?.type),
    deviceInfoFile: runtimeConfig.CNIDeviceInfoFile ?? undefined,
    pod: cniArgs.has('K8S_POD_NAME')
      ? `${cniArgs.get('K8S_POD_NAMESPACE') ?? ''}/${cniArgs.get('K8S_POD_NAME')}`
      : undefined,
    notes,
    warnings,
  };
}

function isPodIfname(name: unknown): boolean {
  return typeof name === 'string' && isIfname(name) && !['lo', 'eth0', 'eth1'].includes(name);
}
