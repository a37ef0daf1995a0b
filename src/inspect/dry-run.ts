import { Failure } from '../attach/failure.ts';
import { ipamType } from '../attach/ipam-plugin.ts';
import { exhausted, refuseBusyPf, unfit } from '../attach/choose.ts';
import { type NetConf, parseConfig } from '../cni/config.ts';
import { toCniError } from '../cni/error-codes.ts';
import { Code, CniError } from '../cni/errors.ts';
import { ipamCallOf } from '../cni/ipam.ts';
import { refusePfSettings } from '../attach/netdev-only.ts';
import { makePlan, type Plan, refuseUnfit } from '../attach/plan.ts';
import { type Wish, wishesOf } from '../attach/wish.ts';
import { parseRequest, type Request } from '../cni/request.ts';
import { formatResult } from '../cni/result.ts';
import { readFile } from '../kernel/files.ts';
import { readStdin } from '../kernel/streams.ts';
import { IFF_UP } from '../kernel/link-message.ts';
import { Log } from '../kernel/log.ts';
import { hasDriver } from '../kernel/pci-driver.ts';
import { printable } from '../kernel/printable.ts';
import { findProgram } from '../kernel/process.ts';
import type { Host } from '../vf/host.ts';
import {
  findDevice,
  findPf,
  isNic,
  NotUsable,
  pfName,
  standsAlone,
  type Vf,
  vfName,
  wholePf,
} from '../vf/inventory.ts';
import { candidates, type Pool } from '../vf/pool.ts';
import { changes, type VfSettings } from '../vf/settings.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';
import { type Config, parseNetwork } from './network.ts';
import { type Device, survey } from './survey.ts';
import { nickname } from './device-owner.ts';
import { paint, printableLines, type Style } from './table.ts';

interface Refusal {
  readonly code: number;
  readonly message: string;
  readonly details?: string | undefined;
}

/** What would be made of a device. */
interface DeviceVerdict {
  readonly takes: Vf;
  /** What would be programmed, and what is. */
  readonly sets: VfSettings;
  readonly is: VfSettings;
}

/** What an ADD of one plugin of a network would do here. */
export interface Verdict {
  readonly type: string;
  /** One device, or the two of a bond. */
  readonly devices: readonly DeviceVerdict[];
  readonly refused: readonly Refusal[];
  readonly notes: readonly string[];
}

const pluginFolders = '/opt/cni/bin:/usr/lib/cni';

/** `sriov check CONFIG`: what an ADD with this configuration would do on this node. Changes nothing. */
export async function dryRun(host: Host, words: readonly string[], flags: Flags): Promise<Outcome> {
  const [file = '', ...more] = words;
  if (file === '' || more.length > 0) return wrongUsage('check', 'it takes one file, or - for stdin');
  const text = file === '-' ? readStdin() : readFile(file);
  if (text === undefined) return { exitCode: 1, stdout: '', stderr: `Cannot find the file "${file}"\n` };
  const network = parseNetwork(text);
  const env = { ...flags.env, CNI_PATH: flags.env['CNI_PATH'] || pluginFolders };
  const verdicts: Verdict[] = [];
  for (const config of network.plugins) {
    const given = flags.device === undefined ? config : { ...config, deviceID: flags.device };
    verdicts.push(
      config['type'] === 'sriov'
        ? await judge(host, given, env, network.getsDevice)
        : judgeOther(config, env.CNI_PATH),
    );
  }
  const isRefused = verdicts.some(({ refused }) => refused.length > 0);
  const exitCode = isRefused ? 3 : 0;
  if (flags.json) {
    const whole = { network: network.name, wouldWork: !isRefused, plugins: verdicts.map(toJson) };
    return { exitCode, stdout: `${JSON.stringify(whole, undefined, 1)}\n` };
  }
  const parts = verdicts.map((verdict, i) =>
    formatVerdict(verdict, `${i + 1} of ${verdicts.length}`, flags.style),
  );
  const end = isRefused
    ? paint(flags.style, 'red', 'An ADD would fail')
    : paint(flags.style, 'green', 'Nothing speaks against an ADD');
  return { exitCode, stdout: `Network ${printable(network.name)}\n${parts.join('')}${end}\n` };
}

/** A plugin of somebody else: is it there, and does it go with ours? */
function judgeOther(config: Config, cniPath: string): Verdict {
  const type = String(config['type']);
  const refused: Refusal[] = [];
  if (findProgram(type, cniPath) === undefined)
    refused.push({
      code: Code.InvalidEnvironment,
      message: `Cannot find plugin "${type}" in CNI_PATH "${cniPath}"`,
    });
  if (type === 'bandwidth')
    refused.push({
      code: Code.InvalidConfig,
      message:
        'The "bandwidth" plugin works on veth pairs and fails behind a VF: use "max_tx_rate", ' +
        'or "capabilities": {"bandwidth": true} of this plugin',
    });
  return { type, devices: [], refused, notes: [] };
}

/** What an ADD would do, by the same functions that do it. */
export async function judge(
  host: Host,
  config: Config,
  env: Request['env'],
  getsDevice: boolean,
): Promise<Verdict> {
  const refused: Refusal[] = [];
  const notes: string[] = [];
  const attempt = async <T>(step: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await step();
    } catch (error) {
      const { code, message, details } = toCniError(error);
      refused.push({ code, message, details });
      return undefined;
    }
  };
  const devices: DeviceVerdict[] = [];
  const quiet: Host = { ...host, log: new Log('panic') };
  const known = await attempt(() => {
    const request = requestOf(config, env);
    return { request, conf: parseConfig(request) };
  });
  if (known) {
    const { request, conf } = known;
    notes.push(...conf.warnings, ...conf.notes);
    const logFile = config['logFile'];
    if (typeof logFile === 'string' && logFile !== '' && !logFile.startsWith('/var/log/'))
      notes.push(`"logFile": "${logFile}" is not below /var/log: lines go to stderr`);
    await attempt(() => conf.hasIpam && ipamCallOf(request));
    await attempt(
      () => conf.hasIpam || formatResult({ interfaces: [], ips: [], routes: [], dns: {} }, conf.cniVersion),
    );
    const planned: { vf: Vf; plan: Plan }[] = [];
    for (const wish of wishesOf(conf)) {
      const taken = planned.map(({ vf }) => vf.pci);
      const vf = await attempt(() => chooseDry(quiet, wish, getsDevice, notes, taken));
      if (!vf) continue;
      const plan = await attempt(() => makePlan(quiet, wish, vf));
      devices.push({ takes: vf, sets: plan?.wanted ?? {}, is: plan?.settings ?? {} });
      if (!plan) continue;
      await attempt(() =>
        refuseUnfit(quiet, wish, request.attachment.containerId, ipamType(config), vf, plan),
      );
      notes.push(...doubts(host, wish, vf, plan));
      planned.push({ vf, plan });
    }
    await attempt(() => refuseIfBond(conf, planned));
    if (!conf.hasIpam && planned.length > 0) notes.push('no "ipam": the interface gets no address');
  }
  return { type: String(config['type']), devices, refused, notes };
}

/** What only a bond can be refused for. @throws NotUsable, Failure */
async function refuseIfBond(conf: NetConf, devices: readonly { vf: Vf; plan: Plan }[]): Promise<void> {
  if (conf.bond) (await import('../attach/bond.ts')).refusePair(conf, devices);
}

function requestOf(config: Config, env: Request['env']): Request {
  const attachment = { CNI_CONTAINERID: 'dry-run', CNI_NETNS: '/dry-run', CNI_IFNAME: 'net1', CNI_ARGS: '' };
  return parseRequest('ADD', { ...env, ...attachment }, JSON.stringify(config));
}

/** What may go wrong, but need not. */
function doubts(
  host: Host,
  wish: Wish,
  vf: Vf,
  { pf, settings: is, wanted: sets, userspace, rdma }: Plan,
): string[] {
  const notes: string[] = [];
  if (rdma)
    notes.push(
      rdma.moves
        ? `its RDMA device ${rdma.name} goes along`
        : `its RDMA device ${rdma.name} stays where it is`,
    );
  if (pf && !(pf.flags & IFF_UP))
    notes.push(`${pfName(vf.pf)} is down: the VF may have no carrier (ip link set ${vf.pf.ifname} up)`);
  for (const key of Object.keys(sets) as (keyof VfSettings)[])
    if (pf && sets[key] !== undefined && is[key] === undefined)
      notes.push(
        `the driver ${vf.pf.driver} of ${pfName(vf.pf)} does not report ${key}: it may refuse to set it`,
      );
  if (userspace !== undefined && !hasDriver(host.sys, userspace))
    notes.push(`the driver ${userspace} is not loaded: an ADD calls modprobe`);
  return notes;
}

/** Chooses as an ADD would, but takes nothing. @throws CniError; NotUsable */
async function chooseDry(
  host: Host,
  wish: Wish,
  getsDevice: boolean,
  notes: string[],
  taken: readonly string[],
): Promise<Vf | undefined> {
  const { device: asked } = wish;
  switch (asked?.kind) {
    case 'vf':
      findDevice(host.sys, asked.pci);
      return named(await survey(host), asked.pci, notes);
    case 'pf': {
      const pf = wholePf(findPf(host.sys, asked.pf));
      const devices = await survey(host);
      named(devices, pf.pci, notes);
      // It puts aside what it cannot read.
      if (!devices.some(({ state }) => state === 'unreadable')) await refuseBusyPf(host, pf);
      return pf;
    }
    case 'pool':
      return pooled(host, asked.pool, wish, notes, taken);
    case undefined:
      if (getsDevice) {
        notes.push('Multus will add the device that the device plugin chooses: --device VF checks one');
        return undefined;
      }
      throw new CniError(
        Code.InvalidConfig,
        'Invalid network configuration: it names no device: "deviceID" is usually put there by Multus, ' +
          'for a NetworkAttachmentDefinition with the annotation k8s.v1.cni.cncf.io/resourceName ' +
          '(--device VF checks as if it had); "pf" takes a free VF without a device plugin',
      );
  }
}

/**
 * A device that is asked for by its address: whoever has it must not have it any more.
 * @throws CniError 11
 */
function named(devices: readonly Device[], pci: string, notes: string[]): Vf {
  const device = devices.find(({ vf }) => vf.pci === pci);
  if (!device) throw new NotUsable(`${pci} is no network device`);
  const { vf, state, why, owner } = device;
  const whose = nickname(owner) ?? owner?.netns;
  if (state === 'attached' || state === 'busy' || state === 'held')
    throw new Failure('busy', `${vfName(vf)} belongs to ${whose}: ${why}`);
  if (state === 'stale') notes.push(`${vfName(vf)} would first be given back; it was of ${whose}: ${why}`);
  else if (state === 'foreign' && !isNic(vf))
    notes.push(`the host uses ${vfName(vf)}: ${why}; named by its address it is taken all the same`);
  else if (state === 'unreadable') notes.push(`${why}: it would be put aside`);
  return vf;
}

/**
 * The VF that a pool would give: a free one, else one whose claim is stale.
 * @throws CniError 11; NotUsable
 */
async function pooled(
  host: Host,
  pool: Pool,
  wish: Wish,
  notes: string[],
  taken: readonly string[],
): Promise<Vf> {
  const { dpdk } = wish;
  const all = candidates(host, pool);
  refusePfSettings(wish, all);
  const devices = await survey(host);
  const stateOf = (vf: Vf) => devices.find((device) => device.vf.pci === vf.pci);
  const isClaimed = (vf: Vf) => stateOf(vf)?.claim !== undefined;
  const reasons = new Map<string, string>();
  for (const vf of [...all.filter((vf) => !isClaimed(vf)), ...all.filter(isClaimed)]) {
    const device = stateOf(vf);
    const isTaken = ['attached', 'busy', 'held'].includes(device?.state ?? '');
    const why = taken.includes(vf.pci)
      ? 'the bond has it already'
      : isTaken
        ? `${nickname(device?.owner)}: ${device?.why}`
        : await unfit(host, pool, dpdk, vf);
    if (why !== undefined) {
      reasons.set(vf.pci, why);
      continue;
    }
    if (device?.state === 'stale') notes.push(`${vfName(vf)} would first be given back: ${device.why}`);
    const free = devices.filter(
      ({ vf: { pci }, state }) => state === 'free' && all.some((one) => one.pci === pci),
    );
    notes.push(
      `${free.length} of the ${all.length} ${pool.devices ? 'devices' : 'VFs'} of the pool are free`,
    );
    return vf;
  }
  throw exhausted(host, pool, all, reasons);
}

function toJson({ type, devices, refused, notes }: Verdict): object {
  const [first = { takes: undefined, sets: {}, is: {} }, second] = devices.map(deviceToJson);
  return { type, wouldWork: refused.length === 0, ...first, second, refused, notes };
}

function deviceToJson({ takes, sets, is }: DeviceVerdict): object {
  const vf = {
    pci: takes.pci,
    index: standsAlone(takes) ? undefined : takes.index,
    pf: isNic(takes) ? undefined : { pci: takes.pf.pci, ifname: takes.pf.ifname },
    driver: takes.driver,
    netdev: takes.ifnames[0],
  };
  return { takes: vf, sets, is };
}

function formatVerdict({ type, devices, refused, notes }: Verdict, which: string, style: Style): string {
  const rows: [string, string][] = [];
  for (const { takes, sets, is } of devices) {
    rows.push([
      'takes',
      `${vfName(takes)}, driver ${takes.driver ?? 'none'}, netdev ${takes.ifnames[0] ?? 'none'}`,
    ]);
    const programmed = changes(is, sets);
    for (const key of Object.keys(programmed) as (keyof VfSettings)[])
      rows.push([
        'sets',
        `${key} ${text(programmed[key])} (now ${is[key] === undefined ? 'unknown' : text(is[key])})`,
      ]);
  }
  for (const note of notes) rows.push(['note', note]);
  for (const { code, message, details } of refused)
    rows.push(['refused', `${message} (code ${code})${details === undefined ? '' : `\n${details}`}`]);
  const lines = rows.map(([name, value]) => {
    const label = paint(style, name === 'refused' ? 'red' : 'dim', name.padEnd(9));
    return `  ${label}${printableLines(value).replaceAll('\n', `\n${' '.repeat(11)}`)}\n`;
  });
  return `${paint(style, 'bold', `Plugin ${which}: ${type}`)}\n${lines.join('')}`;
}

function text(value: unknown): string {
  return JSON.stringify(value).replaceAll('"', '');
}
