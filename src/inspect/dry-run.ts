import { ipamType } from '../attach/ipam-plugin.ts';
import { makePlan, type Plan, refuseUnfit } from '../attach/plan.ts';
import { type Wish, wishesOf } from '../attach/wish.ts';
import { type NetConf, parseConfig } from '../cni/config.ts';
import { toCniError } from '../cni/error-codes.ts';
import { Code } from '../cni/errors.ts';
import { ipamCallOf } from '../cni/ipam.ts';
import { parseRequest, type Request } from '../cni/request.ts';
import { formatResult } from '../cni/result.ts';
import { readFile } from '../kernel/files.ts';
import { IFF_UP } from '../kernel/link-message.ts';
import { Log } from '../kernel/log.ts';
import { hasDriver } from '../kernel/pci-driver.ts';
import { printable } from '../kernel/printable.ts';
import { findProgram } from '../kernel/process.ts';
import { readStdin } from '../kernel/streams.ts';
import type { Host } from '../vf/host.ts';
import { pfName, type Vf } from '../vf/inventory.ts';
import type { VfSettings } from '../vf/settings.ts';
import { chooseDry } from './dry-choice.ts';
import { type Config, parseNetwork } from './network.ts';
import { paint } from './table.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';
import { type DeviceVerdict, formatVerdict, type Refusal, toJson, type Verdict } from './verdict.ts';

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
