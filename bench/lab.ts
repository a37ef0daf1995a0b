import { hostLocal, pfPci, TestNode, vfPci } from '../test/support/node.ts';
import { buildMeasure, call, type Case, caseFile, parseRuns, type Run } from './measure.ts';
import { median, ms, ratio, table } from './table.ts';

const plugins = '/opt/cni/bin';

/** The lab's node with measure in it. */
export class BenchNode {
  readonly node: TestNode;
  #cases = 0;

  private constructor(node: TestNode) {
    this.node = node;
  }

  /** @param files more of them in the guest: path there, path here */
  static async start(pfs: number, files: Readonly<Record<string, string>> = {}): Promise<BenchNode> {
    const node = await TestNode.start({
      pfs,
      vfs: 7,
      processors: 2, // as on every node: the kernel clears up after a move on another one
      files: { '/bench/measure': buildMeasure(), ...files },
    });
    return new BenchNode(node);
  }

  /** Runs cases in the guest; each of them must succeed. */
  async measure(
    mode: 'each' | 'together',
    rounds: number,
    cases: readonly Case[],
  ): Promise<Map<string, Run[]>> {
    const files: string[] = [];
    for (const one of cases) {
      const path = `/run/case-${this.#cases++}`;
      await this.node.machine.write(path, caseFile(one));
      files.push(path);
    }
    const script = `/bench/measure ${mode} ${rounds} ${files.join(' ')}`;
    const { code, stdout, stderr } = await this.node.machine.run(script, { timeoutMs: 0 });
    const runs = parseRuns(stdout);
    const failed = [...runs].filter(([, each]) => each.some(({ exitCode }) => exitCode !== 0));
    if (code !== 0 || failed.length > 0)
      throw new Error(`Cannot measure ${failed.map(([name]) => name).join(', ')}:\n${stderr}`);
    return runs;
  }

  async stop(): Promise<void> {
    await this.node[Symbol.asyncDispose]();
  }
}

/** Our ADD and DEL as cases. */
export function sriov(pod: string, config: object): [add: Case, del: Case] {
  const program = `${plugins}/sriov`;
  const whole = { type: 'sriov', name: 'sriov', ...config };
  return [
    call(`sriov ADD ${pod}`, program, 'ADD', pod, whole),
    call(`sriov DEL ${pod}`, program, 'DEL', pod, whole),
  ];
}

export const wallOf = (runs: readonly Run[] | undefined) => median((runs ?? []).map(({ wallMs }) => wallMs));
const cpuOf = (runs: readonly Run[] | undefined) => median((runs ?? []).map(({ cpuMs }) => cpuMs));

const warmUps = 3;
const rounds = 30;
const settings = { vlan: 100, vlanQoS: 3, spoofchk: 'off', trust: 'on', max_tx_rate: 200 };

/**
 * ADD and DEL of a real VF: ours and Debian's host-device on the same VF, in turn; then with PF settings; then by phase.
 * @param before an executable of ours from another day, in turn with the others
 */
export async function endToEnd(before?: string): Promise<string> {
  const bench = await BenchNode.start(1, before === undefined ? {} : { [`${plugins}/before`]: before });
  try {
    return await takeTurns(bench, before !== undefined);
  } finally {
    await bench.stop();
  }
}

async function takeTurns(bench: BenchNode, hasBefore: boolean): Promise<string> {
  const { node } = bench;
  await node.pods('a');
  const ip = await node.sh('command -v ip');
  const pci = vfPci(0, 0);
  const hostDevice = {
    type: 'host-device',
    name: 'host-device',
    pciBusID: pci,
    ipam: hostLocal('10.2.0.0/16'),
  };
  const own = { deviceID: pci, ipam: hostLocal('10.1.0.0/16') };
  const named = (name: string, one: Case): Case => ({ ...one, name });
  const [add, del] = sriov('a', own);
  const [addSet, delSet] = sriov('a', { ...own, ...settings });
  const host = await node.sh(`ls /sys/bus/pci/devices/${pci}/net`);
  const iproute2 = (name: string, args: string): Case => {
    return { name: `iproute2 ${name}`, program: `${ip} ${args}`, env: {}, stdin: '' };
  };
  const ours = { ADD: add, DEL: del, 'ADD, PF settings': addSet, 'DEL, PF settings': delSet };
  const earlier: Readonly<Record<string, Case>> = hasBefore ? ours : {};
  const cases = [
    iproute2('start', '-V'),
    iproute2('in', `link set dev ${host} netns a name net1 up`),
    iproute2('back', `-n a link set dev net1 netns 1 name ${host}`),
    call('sriov VERSION', `${plugins}/sriov`, 'VERSION', 'a', {}),
    call('host-device VERSION', `${plugins}/host-device`, 'VERSION', 'a', {}),
    named('sriov ADD', add),
    named('sriov DEL', del),
    call('host-device ADD', `${plugins}/host-device`, 'ADD', 'a', hostDevice),
    call('host-device DEL', `${plugins}/host-device`, 'DEL', 'a', hostDevice),
    named('sriov ADD, PF settings', addSet),
    named('sriov DEL, PF settings', delSet),
    ...Object.entries(earlier).map(([command, one]) => ({
      ...named(`before ${command}`, one),
      program: `${plugins}/before`,
    })),
  ];
  // The kernel clears up after a link's move when the program has ended, and whoever comes next would pay for it.
  const settle: Case = {
    name: 'settle',
    program: `${await node.sh('command -v sleep')} 0.1`,
    env: {},
    stdin: '',
  };
  const all = await bench.measure(
    'each',
    warmUps + rounds,
    cases.flatMap((one) => [settle, one]),
  );
  const runs = new Map([...all].map(([name, each]) => [name, each.slice(warmUps)]));
  const wall = (name: string) => wallOf(runs.get(name));
  const cpu = (name: string) => cpuOf(runs.get(name));
  const row = (command: string, peer = 'host-device') => {
    const [ours, theirs] = [`sriov ${command}`, `${peer} ${command}`];
    return [
      peer === 'host-device' ? command : `${command}, beside ${peer}`,
      ms(wall(ours)),
      ms(wall(theirs)),
      ratio(wall(ours), wall(theirs)),
      ms(cpu(ours)),
      ms(cpu(theirs)),
    ];
  };
  const sum = (type: string, withStart: boolean) =>
    wall(`${type} ADD`) + wall(`${type} DEL`) - (withStart ? 0 : 2 * wall(`${type} VERSION`));
  const summary = (label: string, withStart: boolean) => {
    const [ours, theirs] = [sum('sriov', withStart), sum('host-device', withStart)];
    return [label, ms(ours), ms(theirs), ratio(ours, theirs), '', ''];
  };
  const alone = (command: string) => [
    `${command}, PF settings`,
    ms(wall(`sriov ${command}, PF settings`)),
    '',
    '',
    ms(cpu(`sriov ${command}, PF settings`)),
    '',
  ];
  const main = table(
    ['lab, ms', 'sriov', 'host-device', 'ratio', 'sriov CPU', 'host-device CPU'],
    [
      row('VERSION'),
      row('ADD'),
      row('DEL'),
      summary('ADD + DEL', true),
      summary('ADD + DEL without start', false),
      [
        'the two moves alone, by iproute2',
        ms(wall('iproute2 in') + wall('iproute2 back') - 2 * wall('iproute2 start')),
        '',
        '',
        '',
        '',
      ],
      alone('ADD'),
      alone('DEL'),
      ...Object.keys(earlier).map((command) => row(command, 'before')),
    ],
  );
  return `${main}\n\n${await phases(bench, { ...own, ...settings })}`;
}

/** Medians of every duration that a debug log tells: of single changes, and of the phases one after the other. */
async function phases(bench: BenchNode, config: object): Promise<string> {
  const logFile = '/var/log/bench.log';
  await bench.measure('each', 12, [
    ...sriov('a', { ...config, logLevel: 'debug', logFormat: 'json', logFile }),
  ]);
  const lines = (await bench.node.sh(`cat ${logFile}`)).trim().split('\n');
  const times = new Map<string, number[]>();
  for (const line of lines) {
    const { command, msg, ...fields } = JSON.parse(line) as Record<string, string | number>;
    const isPhases = msg === 'phases in ms';
    for (const [key, value] of Object.entries(fields)) {
      if (typeof value !== 'number' || !(isPhases || key === 'ms')) continue;
      const name = `${command}: ${isPhases ? `phase "${key}"` : msg}`;
      times.set(name, [...(times.get(name) ?? []), value]);
    }
  }
  return table(
    ['with PF settings and debug log', 'ms'],
    [...times].map(([name, each]) => [name, ms(median(each))]),
  );
}

/** PCI addresses of so many VFs, over the cards. */
export function vfs(count: number): string[] {
  return Array.from({ length: count }, (_, i) => vfPci(Math.floor(i / 7), i % 7));
}

/** Name of a card's netdev. */
export function pfIfname(bench: BenchNode, card: number): Promise<string> {
  return bench.node.sh(`ls /sys/bus/pci/devices/${pfPci(card)}/net`);
}
