import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LabOptions } from '../../lab/lab.ts';
import { type CniAnswer, difference, hostLocal, pfPci, TestNode, vfPci } from './node.ts';
import { placeOf, plausibleErrors, unknownCalls } from './plausible-errors.ts';
import { isSoak, sample, seed, seeded } from './random.ts';
import { injecting, readTrace, type Trace, type TracedCall, tracing } from './strace.ts';

/** One error at one system call of a command. */
export interface ErrorPoint {
  readonly situation: string;
  readonly call: TracedCall;
  /** The how-manyth of the calls that are like it: its own number depends on what other lanes have. */
  readonly nth: number;
  readonly errno: string;
}

/** What a disturbed call ended with. */
interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly trace: Trace;
}

/** A VF with a card, a pod and a network of its own, so that several can be tried in one machine without seeing each other. */
export interface Lane {
  readonly card: number;
  readonly pod: string;
  readonly network: string;
  /** PCI addresses of what the network takes: one, or two for a bond. */
  readonly devices: readonly string[];
  readonly config: Record<string, unknown> & { readonly dpdk?: true };
  /** Makes something of an attachment differ from what was asked for. */
  readonly spoil: (node: TestNode) => Promise<unknown>;
}

/** Keys of a network that are not in all of them. */
interface Extra {
  readonly dpdk?: true;
  readonly rdma?: true;
}

export function makeLane(card: number, extra: Extra = {}): Lane {
  return {
    card,
    pod: `p${card}`,
    network: `net${card}`,
    devices: [vfPci(card, 0)],
    spoil: async (node) => {
      const pf = await node.sh(`ls /sys/bus/pci/devices/${pfPci(card)}/net`);
      await node.sh(`ip link set ${pf} vf 0 vlan 99`);
    },
    config: {
      cniVersion: '1.0.0',
      name: `net${card}`,
      deviceID: vfPci(card, 0),
      vlan: 100,
      vlanQoS: 3,
      mac: `02:00:00:00:c${card}:01`,
      spoofchk: 'off',
      trust: 'on',
      max_tx_rate: 200,
      mtu: 1400,
      ipam: hostLocal(`10.${card + 1}.0.0/24`),
      ...extra,
    },
  };
}

/** A lane with two VFs of a card as a bond, which cannot have one MAC. */
export function makeBondLane(card: number): Lane {
  const lane = makeLane(card);
  const devices = [vfPci(card, 0), vfPci(card, 1)];
  const config = { ...lane.config, deviceID: undefined, mac: undefined, bond: { devices } };
  return { ...lane, devices, config };
}

/** A lane of a NIC that stands in the place of a card: no PF, and what its netdev can have. */
export function makeNicLane(card: number): Lane {
  const pod = `p${card}`;
  const network = `net${card}`;
  return {
    card,
    pod,
    network,
    devices: [pfPci(card)],
    spoil: (node) => node.sh(`ip -n ${pod} link set net1 mtu 1300`),
    config: {
      cniVersion: '1.0.0',
      name: network,
      deviceID: pfPci(card),
      mac: `02:00:00:00:c${card}:02`,
      mtu: 1400,
      ipam: hostLocal(`10.${card + 1}.0.0/24`),
    },
  };
}

/**
 * A node's drivers and files, without the numbers of RDMA devices' files: the kernel gives the first that is free, so they depend on which of
 * the lanes was faster.
 */
function withoutRdmaNumbers(rest: string): string {
  return rest.replaceAll(/\/(uverbs|umad|issm)\d+/g, '/$1N');
}

/** All that a lane's attachment may change on the node, and what its pod has of it. */
class LaneView {
  readonly node: TestNode;
  readonly lane: Lane;

  constructor(node: TestNode, lane: Lane) {
    this.node = node;
    this.lane = lane;
  }

  /** The node's side. Everything else of the node is compared once, at the end. */
  async onNode(): Promise<object> {
    const { links, rest } = await this.node.state();
    const slot = pfPci(this.lane.card).slice(0, -'00.0'.length);
    const isOurs = (text: string) => text.includes(slot) || text.includes(`/${this.lane.network}/`);
    return {
      links: links.filter(({ parentdev }) => parentdev === undefined || isOurs(parentdev)),
      rest: withoutRdmaNumbers(rest).split('\n').filter(isOurs).sort(),
    };
  }

  /** Both sides of an attachment, without the address, of which each ADD gets the next one, and a bond's MAC: which link comes first is chance. */
  async attached(): Promise<unknown> {
    const inPod = await this.node.sh(`
      ip netns list | grep -qw ${this.lane.pod} || exit 0
      ip -n ${this.lane.pod} -j -d addr show | jq -c '.[] | {ifname, mtu, up: (.flags | index("UP") != null),
        address: (if .linkinfo.info_kind == "bond" then "of its active slave" else .address end),
        addresses: [.addr_info[] | select(.scope != "link") | {local, prefixlen, scope}]}'
      ip -n ${this.lane.pod} route show | sort
      ip netns exec ${this.lane.pod} rdma -j dev | jq -c '[.[].ifname]'`);
    const both = JSON.stringify({ node: await this.onNode(), inPod });
    return JSON.parse(both.replaceAll(/\b10\.\d+\.0\.\d+\b/g, 'ADDRESS')) as unknown;
  }

  /** Whether a record says that something of ours is still to be undone. */
  async isRecorded(): Promise<boolean> {
    const pcis = this.lane.devices.join('|');
    return (
      (await this.node.sh(`ls /var/lib/cni/sriov/*/ 2> /dev/null | grep -cE '(${pcis}).*json$' || true`)) !==
      '0'
    );
  }
}

/** What a command is tried in: made before each try, and judged after it. */
interface Situation {
  readonly command: string;
  /** It ends with an error, whatever else happens. */
  readonly isRefused?: true;
  prepare(): Promise<void>;
  config(): object;
  netns?: string;
  /** What is wrong after an exit code of 0. */
  afterSuccess(stderr: string): Promise<string>;
  /** What is wrong after an error. */
  afterFailure(answer: CniAnswer | undefined): Promise<string>;
  /** Brings the lane back; says what is wrong if it cannot. */
  recover(): Promise<string>;
}

/** Tries errors in one lane. */
export class ErrorLane {
  readonly #node: TestNode;
  readonly #lane: Lane;
  readonly #view: LaneView;
  #pristine: unknown;
  #attached: unknown;
  #prevResult: CniAnswer | undefined;

  constructor(node: TestNode, lane: Lane) {
    this.#node = node;
    this.#lane = lane;
    this.#view = new LaneView(node, lane);
  }

  /** Learns what the lane looks like, free and attached. */
  async learn(): Promise<void> {
    await this.#makePod();
    for (let i = 0; i < 2; i++) {
      this.#prevResult = await this.#add();
      this.#attached = await this.#view.attached();
      await this.#del();
    }
    this.#pristine = await this.#view.onNode();
  }

  #makePod() {
    const { pod } = this.#lane;
    return this.#node.sh(
      `ip netns list | grep -qw ${pod} || { ip netns add ${pod}; ip -n ${pod} link set lo up; }`,
    );
  }

  async #add(): Promise<CniAnswer> {
    return this.#node.add(this.#lane.pod, this.#lane.config);
  }

  async #del(): Promise<void> {
    await this.#node.del(this.#lane.pod, this.#lane.config);
  }

  async #leftBehind(): Promise<string> {
    const left = difference(this.#pristine, await this.#view.onNode());
    return left && `left behind:\n${left}`;
  }

  /** The runtime's DEL, which must succeed and leave nothing. */
  async #delAll(): Promise<string> {
    const { code, answer } = await this.#node.cni('DEL', this.#lane.pod, this.#lane.config);
    if (code !== 0 || answer) return `the DEL without the error fails: ${JSON.stringify(answer)}`;
    const left = await this.#leftBehind();
    return left && `after the DEL without the error: ${left}`;
  }

  /** Something is undone, and nothing says so: nobody will ever bring it back. */
  async #lost(): Promise<string> {
    const left = await this.#leftBehind();
    return left && !(await this.#view.isRecorded()) ? `lost, no claim, ${left}` : '';
  }

  get situations(): Readonly<Record<string, Situation>> {
    const { pod, config, network } = this.#lane;
    const attach = async () => {
      await this.#makePod();
      this.#prevResult = await this.#add();
    };
    const unchanged = async (expected: unknown) => {
      const changed = difference(expected, await this.#view.attached());
      return changed && `it changed something:\n${changed}`;
    };
    const withPrevious = () => ({ ...config, prevResult: this.#prevResult });
    let drifted: unknown;
    return {
      ADD: {
        command: 'ADD',
        prepare: async () => void (await this.#makePod()),
        config: () => config,
        afterSuccess: async () => {
          const missing = difference(this.#attached, await this.#view.attached());
          return missing && `exit code 0, but not attached as it should be:\n${missing}`;
        },
        afterFailure: () => this.#lost(),
        recover: () => this.#delAll(),
      },
      DEL: {
        command: 'DEL',
        prepare: attach,
        config: () => config,
        afterSuccess: async () => {
          const left = await this.#leftBehind();
          return left && `exit code 0, but ${left}`;
        },
        afterFailure: () => this.#lost(),
        recover: () => this.#delAll(),
      },
      'DEL of a pod that is gone': {
        command: 'DEL',
        prepare: async () => {
          await attach();
          await this.#node.sh(`ip netns del ${pod}`);
        },
        config: () => ({ cniVersion: '1.0.0', name: network }),
        netns: '',
        afterSuccess: async () => {
          const left = await this.#leftBehind();
          return left && `exit code 0, but ${left}`;
        },
        afterFailure: () => this.#lost(),
        recover: () => this.#delAll(),
      },
      CHECK: {
        command: 'CHECK',
        prepare: async () => {
          if (!(await this.#view.isRecorded())) await attach();
        },
        config: withPrevious,
        afterSuccess: () => unchanged(this.#attached),
        afterFailure: (answer) =>
          answer?.code === 103
            ? Promise.resolve(`a difference that is none: ${answer.msg}`)
            : unchanged(this.#attached),
        recover: () => Promise.resolve(''),
      },
      'CHECK of what has changed': {
        command: 'CHECK',
        isRefused: true,
        prepare: async () => {
          if (!(await this.#view.isRecorded())) await attach();
          await this.#lane.spoil(this.#node);
          drifted = await this.#view.attached();
        },
        config: withPrevious,
        afterSuccess: () => Promise.resolve('exit code 0, although something has changed'),
        afterFailure: () => unchanged(drifted),
        recover: () => this.#delAll(),
      },
      GC: {
        command: 'GC',
        prepare: async () => {
          await attach();
          await this.#node.sh(`ip netns del ${pod}`);
        },
        config: () => ({ cniVersion: '1.1.0', name: network, 'cni.dev/valid-attachments': [] }),
        // A VF that its driver does not let go in time is told of and left alone: the rest of a node is not to wait for it.
        afterSuccess: async (stderr) => {
          const left = await this.#leftBehind();
          const isTold = stderr.includes('VF left alone') && (await this.#view.isRecorded());
          return left && !isTold ? `exit code 0, but ${left}` : '';
        },
        afterFailure: () => this.#lost(),
        recover: () => this.#delAll(),
      },
      STATUS: {
        command: 'STATUS',
        prepare: () => Promise.resolve(),
        config: () => ({ ...config, cniVersion: '1.1.0', ipam: undefined }),
        afterSuccess: () => this.#leftBehind(),
        afterFailure: () => this.#leftBehind(),
        recover: () => Promise.resolve(''),
      },
    };
  }

  /** Runs a situation's command under strace. */
  async #run(situation: Situation, wrapper: string): Promise<Outcome> {
    const { pod } = this.#lane;
    const attachment = situation.netns === undefined ? {} : { netns: situation.netns };
    const { code, stdout, stderr } = await this.#node.call(situation.command, pod, situation.config(), {
      attachment,
      wrapper,
      timeoutMs: 150_000,
    });
    return { code, stdout, stderr, trace: await readTrace(this.#node, pod) };
  }

  /**
   * Every plausible error of a command that is left alone, from where it reads its configuration: what is before that is the engine's.
   * @throws if it makes calls that nobody has thought about
   */
  async points(name: string): Promise<ErrorPoint[]> {
    const situation = this.#situation(name);
    await situation.prepare();
    const { trace } = await this.#run(situation, tracing(this.#lane.pod));
    const begin = trace.calls.findIndex(({ name, target }) => name.startsWith('read') && target === 'stdin');
    if (begin < 0) throw new Error(`${name} reads no configuration`);
    const calls = trace.calls.slice(begin);
    const unknown = unknownCalls(calls);
    if (unknown.length > 0)
      throw new Error(`${name} makes calls of which nobody has said how they fail: ${unknown.join(', ')}`);
    await this.clean();
    return callsWithoutWaiting(calls).flatMap((call) => {
      const nth = nthAlike(trace.calls, call);
      return plausibleErrors(call).map((errno) => ({ situation: name, call, nth, errno }));
    });
  }

  /** Which call of that name a point is now: the trace of one that got an error may end before it. */
  async #aim(point: ErrorPoint): Promise<number | undefined> {
    const situation = this.#situation(point.situation);
    await situation.prepare();
    const { trace } = await this.#run(situation, tracing(this.#lane.pod));
    await this.clean();
    return findAlike(trace.calls, point)?.n;
  }

  #situation(name: string): Situation {
    const found = this.situations[name];
    if (!found) throw new Error(`no situation ${name}`);
    return found;
  }

  /** Tries one error; returns what went wrong, "" if nothing did, undefined if the command never made that call. */
  async try(point: ErrorPoint): Promise<string | undefined> {
    const { situation: name, call, errno } = point;
    const situation = this.#situation(name);
    let isQuick = true;
    let n = call.n;
    for (let tries = 0; tries < 3; tries++) {
      await situation.prepare();
      const wrapper = injecting(this.#lane.pod, call.name, `error=${errno}:when=${n}`, isQuick);
      const outcome = await this.#run(situation, wrapper);
      const { hit, othersWereHit } = outcome.trace;
      if (hit === undefined || othersWereHit || !isAlike(hit, call)) {
        // How often the kernel is asked for news depends on how fast it is, and how many claims there are on the other lanes.
        isQuick &&= !othersWereHit;
        await this.clean();
        n = (await this.#aim(point)) ?? n;
        continue;
      }
      const { wrong, answer } = judge(outcome, errno, situation.isRefused);
      const complaints = [
        ...wrong,
        outcome.code === 0
          ? await situation.afterSuccess(outcome.stderr)
          : await situation.afterFailure(answer),
        await situation.recover(),
      ].filter(Boolean);
      if (complaints.length === 0) return '';
      await this.clean();
      return `${complaints.join('\n  ')}\n  (${hit.line.slice(0, 160)})\n  exit code ${outcome.code} ${outcome.stdout}${outcome.stderr}`;
    }
    return undefined;
  }

  /** Brings the lane back by whatever helps, so that one failure does not hide the others. */
  async clean(): Promise<void> {
    await this.#makePod();
    const { code } = await this.#node.cni('DEL', this.#lane.pod, this.#lane.config);
    if (code !== 0 || (await this.#leftBehind()))
      await this.#node.machine.run(`
        for vf in ${this.#lane.devices.join(' ')}; do /opt/cni/bin/sriov release $vf --force; done
        ip netns del ${this.#lane.pod}; sleep 1; rm -f /var/lib/cni/networks/${this.#lane.network}/10.*`);
    await this.#makePod();
    const left = await this.#leftBehind();
    if (left) throw new Error(`card ${this.#lane.card} cannot be brought back: ${left}`);
  }
}

/** What a call is made on, without what tells a lane from the others. */
function inAnyLane(target: string): string {
  return target.replaceAll(
    /0000:00:0\d\.0|0000:0\d:|\b(?:eth|vf|dev|net|p)\d+(?:n\d+)?\b|\b10\.\d+\.\d+\.\d+\b|(?<=\/(?:vfio|iommu_groups)\/)\d+/g,
    'N',
  );
}

/** Whether two calls, of whichever lanes, are the same but for their number. */
function isAlike(one: TracedCall, other: TracedCall): boolean {
  return one.name === other.name && inAnyLane(one.target) === inAnyLane(other.target);
}

/** The how-manyth of the calls that are alike one is. */
export function nthAlike(calls: readonly TracedCall[], call: TracedCall): number {
  return calls.filter((other) => other.n <= call.n && isAlike(other, call)).length;
}

/** A point's call in another run, where its number need not be the same; of a loop that was shorter there, the last. */
export function findAlike(calls: readonly TracedCall[], { call, nth }: ErrorPoint): TracedCall | undefined {
  const alike = calls.filter((other) => isAlike(other, call));
  return alike[Math.min(nth, alike.length) - 1];
}

/**
 * Of calls on one thing that are alike in all but numbers, as those of a loop that waits for the kernel are: the first two and the last.
 * How many there are between them depends on how fast the machine is.
 */
export function callsWithoutWaiting(calls: readonly TracedCall[]): TracedCall[] {
  const alike = new Map<string, TracedCall[]>();
  for (const call of calls) {
    const key = `${call.name} ${call.target} ${call.line.replaceAll(/0x[0-9a-f]+|\d+/g, 'N')}`;
    alike.set(key, [...(alike.get(key) ?? []), call]);
  }
  const kept = new Set([...alike.values()].flatMap((same) => [...same.slice(0, 2), ...same.slice(-1)]));
  return calls.filter((call) => kept.has(call));
}

/** Codes that say "your configuration is wrong", "your version is", or "a bug": never the answer to a failing kernel. */
const neverFitting = [1, 2, 6, 7, 999];

/** What is wrong with an answer by itself, and the answer. */
function judge(
  outcome: Outcome,
  errno: string,
  isRefused = false,
): { wrong: string[]; answer: CniAnswer | undefined } {
  const { code, stdout, stderr, trace } = outcome;
  const wrong: string[] = [];
  if (code !== 0 && code !== 1) wrong.push(`exit code ${code}`);
  if (/\n\s+at .*:\d+:\d+/.test(stdout + stderr)) wrong.push('a stack trace');
  let answer: CniAnswer | undefined;
  try {
    answer = stdout === '' ? undefined : (JSON.parse(stdout) as CniAnswer);
  } catch {
    wrong.push('stdout is not one JSON document');
  }
  const place = trace.hit && placeOf(trace.hit);
  if (place === 'log' && code !== 0 && !isRefused)
    wrong.push('a log line that cannot be written fails the call');
  // Who cannot be told must see the exit code; a pipe that is full for a moment is told later.
  const isUnheard = place === 'answer' && ['EPIPE', 'EIO'].includes(errno);
  if (code === 1 && answer === undefined && !isUnheard && wrong.length === 0) wrong.push('no answer');
  if (code === 0 && isUnheard && stdout === '') wrong.push('exit code 0, but the answer is lost');
  if (code === 1 && answer) {
    if (answer.code === undefined || neverFitting.includes(answer.code))
      wrong.push(`code ${answer.code} does not fit`);
    if (!/[/"]|\d:\d|\bnet1\b|\w\(\)|socket|namespace net:/.test(answer.msg ?? ''))
      wrong.push('the message names no file, VF, interface, program or system call');
  }
  return { wrong, answer };
}

/** In what a command is tried, and how many of its points `make test` takes. */
const situations: Readonly<Record<string, number>> = {
  ADD: 7,
  DEL: 7,
  'DEL of a pod that is gone': 3,
  CHECK: 2,
  'CHECK of what has changed': 2,
  GC: 3,
  STATUS: 2,
};

interface Special {
  /** How many cards are tried at once. */
  readonly lanes?: number;
  /** What the node needs before the first pod. */
  readonly prepare?: (node: TestNode) => Promise<void>;
  /** How many points of each command `make test` takes, where it is not as many as of the netdev's. */
  readonly sampled?: Readonly<Record<string, number>>;
  /** VFs of each card. */
  readonly vfs?: number;
}

/**
 * Puts every plausible error at every system call of every command, one at a time, on several cards at once.
 * @param laneOn the network of a card
 * @param more what the machine has where it is not that many of the lab's cards
 */
export function describeErrors(
  kind: string,
  laneOn: (card: number) => Lane = makeLane,
  { prepare, lanes: laneCount = 3, sampled = situations, vfs = 1, ...more }: LabOptions & Special = {},
): void {
  let node: TestNode;
  let lanes: ErrorLane[];
  let pristine: unknown;
  const wholeNode = async () => {
    const { links, rest } = await node.state();
    return { links, rest: withoutRdmaNumbers(rest) };
  };

  beforeAll(async () => {
    node = await TestNode.start({ pfs: laneCount, ...more, vfs });
    await prepare?.(node);
    await node.sh('modprobe vfio-pci');
    const made = Array.from({ length: laneCount }, (_, card) => laneOn(card));
    lanes = made.map((lane) => new ErrorLane(node, lane));
    // The kernel gives a reloaded driver's netdev the first free "eth": no name of ours may be one.
    for (const { card, devices } of made)
      for (const [i, pci] of devices.entries())
        await node.sh(
          `ip link set $(ls /sys/bus/pci/devices/${pci}/net) name vf${card}${i > 0 ? `n${i}` : ''}`,
        );
    await Promise.all(lanes.map((lane) => lane.learn()));
    pristine = await wholeNode();
  }, 900_000);
  afterAll(() => node[Symbol.asyncDispose]());

  test.each(Object.keys(isSoak ? situations : sampled))(
    `${kind}, an error at every system call: %s`,
    { timeout: 14_400_000 },
    async (situation) => {
      const [first] = lanes;
      if (!first) throw new Error('no lane');
      const all = await first.points(situation);
      const wanted = process.env['POINTS'] === undefined ? undefined : new RegExp(process.env['POINTS']);
      const queue = wanted
        ? all.filter((point) => wanted.test(`${pointName(point)} ${point.call.line}`))
        : isSoak
          ? all
          : sample(all, Number(process.env['ERRORS'] ?? sampled[situation] ?? 0), seeded(seed));
      const [known, chosen] = [all.length, queue.length];
      const failures: string[] = [];
      let tried = 0;
      const missed: ErrorPoint[] = [];
      const worker = async (lane: ErrorLane) => {
        for (let point = queue.pop(); point; point = queue.pop()) {
          const wrong = await lane
            .try(point)
            .catch((error: unknown) => lane.clean().then(() => String(error)));
          if (wrong === undefined) missed.push(point);
          else tried++;
          if (!wrong) continue;
          failures.push(`${situation}, ${pointName(point)}: ${wrong}`);
          console.log(failures.at(-1));
        }
      };
      // A lane that cannot be brought back ends the test, but not before the others have ended: the next one begins on the same lanes.
      const giveUp = (error: unknown) => {
        console.log(`${situation}: a lane is given up: ${String(error)}`);
        queue.length = 0;
        throw error;
      };
      const ends = await Promise.allSettled(lanes.map((lane) => worker(lane).catch(giveUp)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
      for (const lane of lanes) await lane.clean();
      // What the other cards did may have moved their calls: once more while they do nothing.
      queue.push(...missed.splice(0));
      await worker(first);
      await first.clean();
      console.log(
        `${kind}, ${situation}: ${tried - failures.length} of ${tried} errors survived, ${missed.length} not reached (of ${known}, ${chosen} chosen)${missed.map((point) => `\n  not reached: ${pointName(point)}`).join('')}`,
      );
      expect(failures).toEqual([]);
      expect(difference(pristine, await wholeNode())).toBe('');
    },
  );
}

export function pointName({ call, errno }: ErrorPoint): string {
  return `${errno} at ${call.name} ${call.n} (${call.target || placeOf(call)})`;
}
