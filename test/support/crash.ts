import { afterAll, beforeAll, expect, test } from 'vitest';
import { difference, hostLocal, TestNode, vfPci } from './node.ts';
import { isSoak, sample, seed, seeded } from './random.ts';

/** A network with every setting. */
export const common = {
  deviceID: vfPci(0, 0),
  vlan: 100,
  vlanQoS: 3,
  mac: '02:00:00:00:c0:01',
  spoofchk: 'off',
  trust: 'on',
  max_tx_rate: 200,
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24'),
};

type Config = typeof common & { dpdk?: true };

/** How a call ended. */
interface Ended {
  readonly code: number;
  readonly stderr: string;
}

/** One of our front doors, with a network: calls that can be traced and killed. The pod's namespace has the pod's name. */
export interface Door {
  readonly attach: (node: TestNode, pod: string, wrapper?: string) => Promise<Ended>;
  readonly detach: (node: TestNode, pod: string, wrapper?: string) => Promise<Ended>;
  /** How a killed call for pod p is cleaned up after. Each must leave the node as it was before. */
  readonly recoveries: Readonly<Record<string, (node: TestNode) => Promise<void>>>;
}

/** A call that must succeed. */
export async function mustEnd(call: Promise<Ended>): Promise<void> {
  const { code, stderr } = await call;
  if (code !== 0) throw new Error(`a call failed: ${stderr}`);
}

/** CNI's door. */
export function cniDoor(config: Config): Door {
  return {
    attach: (node, pod, wrapper) => node.cni('ADD', pod, config, undefined, wrapper),
    detach: (node, pod, wrapper) => node.cni('DEL', pod, config, undefined, wrapper),
    recoveries: {
      'the runtime sends DEL': (node) => node.del('p', config),
      'the pod dies and the operator runs sriov gc': async (node) => {
        await node.sh('ip netns del p; /opt/cni/bin/sriov gc >&2');
      },
      'the pod dies and the next pod wants the VF': async (node) => {
        await node.sh('ip netns del p');
        await node.pods('q');
        const result = await node.add('q', config);
        expect(result.ips?.[0]?.address).toMatch(/^10\.1\.0\./);
        await node.del('q', config);
        await node.sh('ip netns del q');
      },
    },
  };
}

/**
 * System calls by which the plugin changes something: messages to the kernel, files of ours, of procfs and sysfs, programs, namespaces,
 * locks. Between two of them a kill makes no difference.
 */
const changingCalls = [
  'sendmsg',
  'write',
  'rename',
  'fsync',
  'fdatasync',
  'fchmod',
  'mkdir',
  'unlink',
  'utimensat',
  'vfork',
  'fork', // of musl; glibc's fork() is clone()
  'clone',
  'setns',
  'flock',
  'wait4',
] as const;

/** The N-th system call of a kind in one run of the plugin. */
interface KillPoint {
  readonly call: string;
  readonly n: number;
}

/** Which changing calls a call makes, where it is not killed. Only the plugin's own main thread counts: strace without -f. */
async function killPoints(node: TestNode, call: Door['attach']): Promise<KillPoint[]> {
  await mustEnd(call(node, 'p', `strace -o /run/trace -e trace=${changingCalls.join(',')}`));
  const counts = await node.sh(`sed -n 's/^\\([a-z0-9]*\\)(.*/\\1/p' /run/trace | sort | uniq -c`);
  return counts.split('\n').flatMap((line) => {
    const [count, name = ''] = line.trim().split(' ');
    return Array.from({ length: Number(count) }, (_, i) => ({ call: name, n: i + 1 }));
  });
}

/** Makes a call that is killed just before its N-th system call of a kind. Returns false if it ended before. */
async function runKilled(node: TestNode, { call, n }: KillPoint, door: Door['attach']): Promise<boolean> {
  const { code } = await door(
    node,
    'p',
    `strace -o /dev/null -e trace=${call} -e inject=${call}:signal=KILL:when=${n}`,
  );
  return code === 128 + 9;
}

/**
 * Kills the attaching and the detaching call of a door at every system call that changes something, each point in a run of its own, and cleans up in each way.
 * @param sampled how many points of a command `make test` tries with each way to clean up
 */
export function describeCrashes(kind: string, door: Door, sampled: number): void {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 2 });
    await node.sh('modprobe vfio-pci'); // else only the first ADD would start modprobe
    // The first ADD of a node makes folders, and only that one.
    await makePod();
    await mustEnd(door.attach(node, 'p'));
    await mustEnd(door.detach(node, 'p'));
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const makePod = () => node.sh('ip netns list | grep -qw p || { ip netns add p; ip -n p link set lo up; }');

  /** Kills a command at each point, cleans up, compares; returns what went wrong. */
  async function tryPoints(
    points: readonly KillPoint[],
    recovery: string,
    killed: (point: KillPoint) => Promise<boolean>,
  ): Promise<string[]> {
    const failures: string[] = [];
    let tried = 0;
    for (const point of points) {
      const where = `${recovery}, after a kill at ${point.call} ${point.n}`;
      try {
        await makePod();
        // How often the kernel is asked for news depends on how fast it is; so the last points may need another try.
        for (let tries = 1; !(await killed(point)); tries++) {
          if (tries === 3) throw new Error('was not killed');
          await mustEnd(door.detach(node, 'p'));
        }
        await door.recoveries[recovery]?.(node);
        const left = difference(pristine, await node.state());
        if (left) throw new Error(left);
        tried++;
      } catch (error) {
        failures.push(`${where}: ${(error as Error).message}`);
        console.log(failures.at(-1));
        // Go on from a clean node, so that one failure does not hide the others.
        await makePod();
        await node.machine.run('/opt/cni/bin/sriov release 0000:01:10.0 --force');
        await door.detach(node, 'p');
        if (JSON.stringify(await node.state()) !== JSON.stringify(pristine))
          throw new Error(failures.join('\n'));
      }
    }
    console.log(`${kind}, ${recovery}: ${tried} of ${points.length} points recovered`);
    return failures;
  }

  for (const [i, recovery] of Object.keys(door.recoveries).entries()) {
    const chosen = (points: KillPoint[]) => (isSoak ? points : sample(points, sampled, seeded(seed + i)));

    test(`${kind}, attaching: ${recovery}`, { timeout: 3_600_000 }, async () => {
      await makePod();
      const points = await killPoints(node, door.attach);
      await mustEnd(door.detach(node, 'p'));
      const failures = await tryPoints(chosen(points), recovery, (point) =>
        runKilled(node, point, door.attach),
      );
      expect(failures).toEqual([]);
    });

    test(`${kind}, detaching: ${recovery}`, { timeout: 3_600_000 }, async () => {
      await makePod();
      await mustEnd(door.attach(node, 'p'));
      const points = await killPoints(node, door.detach);
      const failures = await tryPoints(chosen(points), recovery, async (point) => {
        await mustEnd(door.attach(node, 'p'));
        return runKilled(node, point, door.detach);
      });
      expect(failures).toEqual([]);
    });
  }
}
