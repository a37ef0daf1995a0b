import { userspaceDrivers } from '../dpdk/driver.ts';
import { quoted } from '../kernel/printable.ts';
import { Failure } from './failure.ts';
import { type Asked, askedBy, conflictsOf, type Key, keys, parseMac, type Values } from './keys.ts';
import { meantWord } from './spelling.ts';
import type { Device, Wish } from './wish.ts';

/** Options of a network or of a container in it, as Docker's and Podman's users give them. */
export type Options = Readonly<Record<string, string>>;

/** What options say: the part of a wish that does not depend on the container, and the door's own. */
export interface Understood {
  readonly wish: Pick<Wish, 'device' | Asked>;
  /** The options that the door itself knows, by name. */
  readonly own: ReadonlyMap<string, string>;
}

/** Names of the plugins that people come from (Clear Containers', Mellanox's), and of Docker's own drivers. */
const aliases: ReadonlyMap<string, keyof typeof keys> = new Map([
  ['pf_iface', 'pf'],
  ['netdevice', 'pf'],
  ['parent', 'pf'],
  ['vlanid', 'vlan'],
  ['com.docker.network.driver.mtu', 'mtu'],
]);

/** Options of those plugins that are no more than a way to another one. */
const retired: ReadonlyMap<string, string> = new Map([
  ['phys_network', 'name the PF: pf=ens1f0'],
  ['rocehoplimit', 'it has no counterpart here'],
]);

const numbers: readonly string[] = ['vf', 'vlan', 'vlanQoS', 'min_tx_rate', 'max_tx_rate', 'mtu'];
const toggles: readonly string[] = ['spoofchk', 'trust'];
/** Options whose name alone says yes. */
const booleans: readonly string[] = ['dpdk', 'rdma', 'promisc', 'allmulti', 'reset'];

const yes: readonly string[] = ['', '1', 'true', 'on', 'yes'];
const no: readonly string[] = ['0', 'false', 'off', 'no'];

/** The boolean that an option's text means, as `-o NAME` and `-o NAME=yes` are written; undefined if it is none. */
export function parseBoolean(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return yes.includes(word) ? true : no.includes(word) ? false : undefined;
}

/** An option that a door's user has given wrongly. */
export function refusedOption(name: string, value: string, problem: string): Failure {
  return new Failure('bad wish', `Invalid options: "${name}": ${quoted(value)} is not allowed: ${problem}`);
}

/** Whether the network's router is to be a container's default route: "gateway=none" says no. @throws Failure `bad wish` */
export function wantsGateway(text: string | undefined): boolean {
  if (text === undefined) return true;
  if (text === 'none') return false;
  throw refusedOption('gateway', text, 'it can only be none: --gateway sets the address');
}

/** The MAC that a container's user has given. @throws Failure `bad wish` */
export function givenMac(text: string | null | undefined): string | undefined {
  if (!text) return undefined;
  const mac = parseMac(text);
  if (mac !== undefined) return mac;
  throw new Failure('bad wish', `MAC ${quoted(text)} is not allowed: it must be a unicast MAC address`);
}

/** What both doors for containers say of `-p`. */
export const noPublishedPorts =
  'published ports have no effect on a VF: its traffic does not pass through the host';

/** Collects everything that is wrong, so that an author mends it in one go. */
class Problems {
  readonly #found: string[] = [];

  add(name: string, value: string | undefined, problem: string): void {
    const given = value === undefined ? quoted(name) : `${quoted(name)}: ${quoted(value)}`;
    this.#found.push(`${given} is not allowed: ${problem}`);
  }

  get count(): number {
    return this.#found.length;
  }

  /** @throws Failure `bad wish` */
  throwIfAny(): void {
    if (this.#found.length > 0) throw new Failure('bad wish', `Invalid options: ${this.#found.join('; ')}`);
  }
}

/** Options under their names of today. */
interface Layer {
  readonly given: Map<string, string>;
  /** Mellanox's mode=passthrough: the PF itself. */
  readonly wholePf: boolean | undefined;
}

/** Docker's command line writes the names of a container's options in lower case, so case does not count. */
function readLayer(options: Options, ownNames: readonly string[], problems: Problems): Layer {
  const known = new Map([...Object.keys(keys), ...ownNames].map((name) => [name.toLowerCase(), name]));
  const given = new Map<string, string>();
  let wholePf: boolean | undefined;
  const take = (key: string, name: string, value: string) => {
    if (given.has(key)) problems.add(name, value, `"${key}" is given twice`);
    given.set(key, value);
  };
  for (const [name, value] of Object.entries(options)) {
    const lower = name.toLowerCase();
    const key = known.get(lower) ?? aliases.get(lower);
    if (key !== undefined) take(key, name, value);
    else if (retired.has(lower)) problems.add(name, value, retired.get(lower) ?? '');
    else if (lower === 'privileged') {
      const isPrivileged = parseBoolean(value);
      if (isPrivileged === undefined) problems.add(name, value, 'must be true or false');
      take('spoofchk', name, isPrivileged ? 'off' : 'on');
      take('trust', name, isPrivileged ? 'on' : 'off');
    } else if (lower === 'mode') {
      if (!['sriov', 'passthrough'].includes(value))
        problems.add(name, value, 'must be sriov or passthrough');
      wholePf = value === 'passthrough';
    } else {
      // Comparing takes time, and nobody mistypes so many or such long ones.
      const isWorthIt = problems.count < 20 && name.length < 40;
      const meant = isWorthIt
        ? meantWord(name, [...known.values(), ...aliases.keys(), 'privileged', 'mode'])
        : undefined;
      problems.add(name, value, meant === undefined ? 'there is no such option' : `did you mean "${meant}"?`);
    }
  }
  return { given, wholePf };
}

/** The value as a CNI configuration would have it; text that is none stays text, which its schema refuses. */
function toValue(key: string, text: string): unknown {
  if (numbers.includes(key)) return /^\d+$/.test(text) ? Number(text) : text;
  if (toggles.includes(key)) {
    const isOn = text === '' ? undefined : parseBoolean(text);
    return isOn === undefined ? text : isOn ? 'on' : 'off';
  }
  if (key === 'driver' || key === 'devices') return text.split(',');
  if (key === 'dpdk') return parseBoolean(text) ?? { driver: text };
  if (booleans.includes(key)) return parseBoolean(text) ?? text;
  return text;
}

function deviceOf(values: Values, wholePf: boolean, problems: Problems): Device | undefined {
  const { deviceID, pf: pfs, devices, vf: index, driver: drivers } = values;
  if (!wholePf) {
    if (deviceID !== undefined) return { kind: 'vf', pci: deviceID };
    const needsRdma = values.rdma;
    if (devices !== undefined) return { kind: 'pool', pool: { pfs: [], devices, drivers, needsRdma } };
    return pfs && { kind: 'pool', pool: { pfs, index, drivers, needsRdma } };
  }
  const unfit = (['deviceID', 'devices', 'vf', 'driver', 'dpdk', 'vlan', 'mac'] as const).filter(
    (key) => values[key] !== undefined && values[key] !== false,
  );
  const [only] = pfs ?? [];
  if (unfit.length > 0)
    problems.add('mode', 'passthrough', `a PF that goes into a container takes no ${unfit.join(', ')}`);
  if (!only || only.ranges) problems.add('mode', 'passthrough', 'it takes one PF: pf=ens1f0');
  return { kind: 'pf', pf: only?.pf ?? '' };
}

/**
 * Understands options and refuses what is wrong in them.
 * @param layers later ones count more: the network's, then the container's
 * @param ownNames options that the door itself knows
 * @throws Failure `bad wish` naming every problem
 */
export function parseOptions(layers: readonly Options[], ownNames: readonly string[]): Understood {
  const problems = new Problems();
  const read = layers.map((options) => readLayer(options, ownNames, problems));
  const given = new Map<string, string>();
  for (const layer of read) {
    // A container's word over its network's.
    if (layer.given.has('pf')) for (const other of ['deviceID', 'devices']) given.delete(other);
    if (layer.given.has('devices')) for (const other of ['deviceID', 'pf', 'vf']) given.delete(other);
    for (const [key, text] of layer.given) given.set(key, text);
  }
  const values: Record<string, unknown> = {};
  const own = new Map<string, string>();
  for (const [key, text] of given) {
    if (ownNames.includes(key)) {
      own.set(key, text);
      continue;
    }
    const { schema, allowed }: Key = keys[key as keyof typeof keys];
    const result = text === '' && !booleans.includes(key) ? undefined : schema.safeParse(toValue(key, text));
    if (result?.success) values[key] = result.data;
    else problems.add(key, text, `must be ${allowedAsOption[key] ?? allowed}`);
  }
  for (const { key, problem } of conflictsOf(values)) problems.add(key, given.get(key), problem);
  const wholePf = read.findLast((layer) => layer.wholePf !== undefined)?.wholePf ?? false;
  const device = deviceOf(values, wholePf, problems);
  problems.throwIfAny();
  return { wish: { ...askedBy(values), device }, own };
}

/** Where an option is written otherwise than the key of a CNI configuration. */
const allowedAsOption: Readonly<Record<string, string>> = {
  pf: 'the name or PCI address of a PF, "ens1f0#0-3,7" for some of its VFs',
  devices: 'PCI addresses of VFs or NICs with commas between them: 0000:02:00.0,0000:03:00.0',
  driver: 'the name of a driver, or some with commas between them',
  dpdk: `true, false or the driver to bind (${userspaceDrivers.join(', ')})`,
};
