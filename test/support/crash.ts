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

/**
 * System calls by which the plugin changes something: messages to the kernel, files of ours, of procfs and sysfs, programs, namespaces,
 * locks. Between two of them a kill makes no difference.
 */
const changingCalls = [
  'sendmsg',
  'write',
  'rename',
  'fsync',
  'mkdir',
  'unlink',
  'utimensat',
  'vfork',
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

/** Which changing calls a command makes, in a run that is not killed. Only the plugin's own main thread counts: strace without -f. */
async function killPoints(
  node: TestNode,
  command: string,
  pod: string,
  config: object,
): Promise<KillPoint[]> {
  const traced = `strace -o /run/trace -e trace=${changingCalls.join(',')}`;
  const { code, stderr } = await node.cni(command, pod, config, undefined, traced);
  if (code !== 0) throw new Error(`${command} failed: ${stderr}`);
  const counts = await node.sh(`sed -n 's/^\\([a-z0-9]*\\)(.*/\\1/p' /run/trace | sort | uniq -c`);
  return counts.split('\n').flatMap((line) => {
    const [count, call = ''] = line.trim().split(' ');
    return Array.from({ length: Number(count) }, (_, i) => ({ call, n: i + 1 }));
  });
}

/** Runs a command that is killed just before its N-th call of a kind. Returns false if it ended before. */
async function runKilled(
  node: TestNode,
  { call, n }: KillPoint,
  command: string,
  pod: string,
  config: object,
): Promise<boolean> {
  const traced = `strace -o /dev/null -e trace=${call} -e inject=${call}:signal=KILL:when=${n}`;
  const { code } = await node.cni(command, pod, config, undefined, traced);
  return code === 128 + 9;
}

/** How a killed command is cleaned up after. Each must leave the node as it was before the ADD. */
const recoveries: Record<string, (node: TestNode, config: Config) => Promise<void>> = {
  'the runtime sends DEL': async (node, config) => {
    await node.del('p', config);
  },
  'the pod dies and the operator runs sriov gc': async (node) => {
    await node.sh('ip netns del p; /opt/cni/bin/sriov gc >&2');
  },
  'the pod dies and the next pod wants the VF': async (node, config) => {
    await node.sh('ip netns del p');
    await node.pods('q');
    const result = await node.add('q', config);
    expect(result.ips?.[0]?.address).toMatch(/^10\.1\.0\./);
    await node.del('q', config);
    await node.sh('ip netns del q');
  },
};

/**
 * Kills ADD and DEL of one network at every system call that changes something, each point in a run of its own, and cleans up in each way.
 * @param sampled how many points of a command `make test` tries with each way to clean up
 */
export function describeCrashes(kind: string, config: Config, sampled: number): void {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 2 });
    await node.sh('modprobe vfio-pci'); // else only the first ADD would start modprobe
    // The first ADD of a node makes folders, and only that one.
    await makePod();
    await node.add('p', config);
    await node.del('p', config);
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
          await node.del('p', config);
        }
        await recoveries[recovery]?.(node, config);
        const left = difference(pristine, await node.state());
        if (left) throw new Error(left);
        tried++;
      } catch (error) {
        failures.push(`${where}: ${(error as Error).message}`);
        console.log(failures.at(-1));
        // Go on from a clean node, so that one failure does not hide the others.
        await makePod();
        await node.machine.run('/opt/cni/bin/sriov release 0000:01:10.0 --force');
        await node.cni('DEL', 'p', config);
        if (JSON.stringify(await node.state()) !== JSON.stringify(pristine))
          throw new Error(failures.join('\n'));
      }
    }
    console.log(`${kind}, ${recovery}: ${tried} of ${points.length} points recovered`);
    return failures;
  }

  for (const [i, recovery] of Object.keys(recoveries).entries()) {
    const chosen = (points: KillPoint[]) => (isSoak ? points : sample(points, sampled, seeded(seed + i)));

    test(`${kind}, ADD: ${recovery}`, { timeout: 3_600_000 }, async () => {
      await makePod();
      const points = await killPoints(node, 'ADD', 'p', config);
      await node.del('p', config);
      const failures = await tryPoints(chosen(points), recovery, (point) =>
        runKilled(node, point, 'ADD', 'p', config),
      );
      expect(failures).toEqual([]);
    });

    test(`${kind}, DEL: ${recovery}`, { timeout: 3_600_000 }, async () => {
      await makePod();
      await node.add('p', config);
      const points = await killPoints(node, 'DEL', 'p', config);
      const failures = await tryPoints(chosen(points), recovery, async (point) => {
        await node.add('p', config);
        return runKilled(node, point, 'DEL', 'p', config);
      });
      expect(failures).toEqual([]);
    });
  }
}
