import { afterAll, beforeAll, expect, test } from 'vitest';
import { labArch } from '../../lab/arch.ts';
import type { LabOptions } from '../../lab/lab.ts';
import { difference, hostLocal, TestNode, vfPci } from './node.ts';
import { isSoak, sample, seed, seeded } from './random.ts';
import { readTrace, type TracedCall, tracing } from './strace.ts';

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

/** The same as far as options of Docker's and Podman's networks say it: their addresses and MACs come from elsewhere. */
export const commonOptions = {
  deviceID: common.deviceID,
  vlan: '100',
  vlanQoS: '3',
  spoofchk: 'off',
  trust: 'on',
  max_tx_rate: '200',
  mtu: '1400',
};

/** A NIC's, which has no PF that could set more. */
export const commonOfNic = {
  deviceID: '0000:02:00.0',
  mac: '02:00:00:00:c0:02',
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24'),
};

/** Two VFs of one PF as a bond: it has no `deviceID`, and one MAC cannot be both's. */
const commonOfBond = {
  ...common,
  deviceID: undefined,
  mac: undefined,
  bond: { devices: [vfPci(0, 1), vfPci(0, 0)] },
};

type Config = (typeof common | typeof commonOfNic | typeof commonOfBond) & { dpdk?: true; rdma?: true };

/** How a call ended. */
interface Ended {
  readonly code: number;
  readonly stderr: string;
}

/** One of our front doors, with a network: calls that can be traced and killed. The pod's namespace has the pod's name. */
export interface Door {
  readonly attach: (node: TestNode, pod: string, wrapper?: string) => Promise<Ended>;
  readonly detach: (node: TestNode, pod: string, wrapper?: string) => Promise<Ended>;
  /** Its IPAM plugin is host-local, which is killed, too. */
  readonly hasIpam?: true;
  /** A server: how often its own threads wake it by write() differs, so some of the last points may not come in a second run. */
  readonly isServer?: true;
  /** Its device (VF 0 of the 82576). */
  readonly device?: string;
  /** What the node needs before the first pod. */
  readonly prepare?: (node: TestNode) => Promise<void>;
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
    hasIpam: true,
    ...(config.deviceID ? { device: config.deviceID } : {}),
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

/** CNI's door with a bond. */
export const bondDoor: Door = cniDoor(commonOfBond);

/**
 * System calls by which the plugin changes something: messages to the kernel, files of ours, of procfs and sysfs, programs, namespaces,
 * locks, descriptors. Between two of them a kill makes no difference. Of "openat" only those that make, empty or write a file count.
 */
const changingCalls =
  `sendmsg sendto write pwrite64 openat rename renameat fsync fdatasync mkdir mkdirat unlink unlinkat utimensat fchmod
  vfork fork clone clone3 wait4 setns flock ioctl dup dup2 dup3 memfd_create pipe2 socket bind`.split(/\s+/);

/** Those of an IPAM plugin, which has threads: any of them may be the one. */
const ipamCalls = 'openat write rename renameat fsync unlink unlinkat mkdir mkdirat flock exit_group'.split(
  ' ',
);

/** What the C library's dup2() calls. */
const dup = labArch === 'arm64' ? 'dup3' : 'dup2';

/** The N-th system call of a kind in one run of the plugin, or of a program that it starts. */
export interface KillPoint {
  readonly call: string;
  readonly n: number;
  /** Who is killed: the plugin; a child of it; or both. */
  readonly victim: 'plugin' | 'child' | 'both';
}

/** A kill, and what cleans up after it: a name of {@link Door.recoveries}. */
interface Try {
  readonly point: KillPoint;
  readonly recovery: string;
}

function isChanging({ name, line }: TracedCall): boolean {
  return name !== 'openat' || /O_(CREAT|TRUNC|TMPFILE|WRONLY|RDWR)/.test(line);
}

/** Which changing calls a call makes where it is not killed, after it has read what is wanted. */
export async function changingPoints(node: TestNode, call: Door['attach']): Promise<KillPoint[]> {
  await mustEnd(call(node, 'p', tracing('p')));
  const { calls } = await readTrace(node, 'p');
  const begin = calls.findIndex(({ name, target }) => name.startsWith('read') && target === 'stdin');
  return calls
    .slice(Math.max(begin, 0))
    .filter((one) => changingCalls.includes(one.name) && isChanging(one))
    .map(({ name, n }) => ({ call: name, n, victim: 'plugin' }));
}

/** Likewise for what it starts: the way from our own code to the program, and the IPAM plugin. */
async function childPoints(node: TestNode, call: Door['attach']): Promise<KillPoint[]> {
  // A processor's kernel need not have all of them: "?".
  const calls = ipamCalls.map((name) => `?${name}`).join(',');
  await node.sh(`echo 'strace -f -o /run/trace.ipam -e trace=${calls}' > /run/ipam.wrapper`);
  await mustEnd(call(node, 'p'));
  // The highest count of any of its threads.
  const counts = await node.sh(`rm /run/ipam.wrapper
    sed -nE 's/^([0-9]+) +([a-z0-9_]+)\\(.*/\\2 \\1/p' /run/trace.ipam | sort | uniq -c | sort -k 2,2 -k 1,1nr | sort -u -k 2,2`);
  const inIpam = counts.split('\n').flatMap((line) => {
    const [count, name = ''] = line.trim().split(' ');
    return Array.from({ length: Number(count) }, (_, i) => ({ call: name, n: i + 1 }));
  });
  return (['child', 'both'] as const).flatMap((victim) => [
    { call: dup, n: 1, victim },
    { call: dup, n: 2, victim },
    { call: 'execve', n: 1, victim },
    ...inIpam.map((point) => ({ ...point, victim })),
  ]);
}

/**
 * An address that host-local died freeing is a lease, which gc frees. One that it died giving is a file without content, which nobody can
 * tell whose it is: that is host-local's own leak.
 */
const afterIpamsDeath = `sriov gc > /dev/null; find /var/lib/cni/networks -name '10.*' -size 0 -delete`;

/** What stands for host-local: the real one, but through whatever /run/ipam.wrapper says. It ends as the real one ends. */
const ipamStandIn = `#!/bin/bash
[ -e /run/ipam.wrapper ] || exec /opt/cni/bin/host-local.real
wrapper=$(cat /run/ipam.wrapper)
$wrapper /opt/cni/bin/host-local.real
code=$?
(( code > 128 )) && [ -e /run/ipam.both ] && pkill -KILL -x sriov
exit $code
`;

/** Makes a call that is killed, or whose child is, just before the N-th system call of a kind. Returns false if it ended before. */
async function runKilled(
  node: TestNode,
  { call, n, victim }: KillPoint,
  door: Door['attach'],
): Promise<boolean> {
  const kill = `-e trace=${call} -e inject=${call}:signal=KILL:when=${n}`;
  if (victim === 'plugin') return (await door(node, 'p', `strace -o /dev/null ${kill}`)).code === 128 + 9;
  const isBeforeIpam = call === dup || call === 'execve';
  const only = call === 'execve' ? '-P /opt/cni/bin/host-local' : '';
  await node.sh(`rm -f /run/ipam.*; : > /run/trace.ipam
    ${victim === 'both' ? 'touch /run/ipam.both' : ''}
    ${isBeforeIpam ? '' : `echo 'strace -f -o /run/trace.ipam ${kill}' > /run/ipam.wrapper`}`);
  await door(node, 'p', isBeforeIpam ? `strace -f -o /run/trace.ipam ${only} ${kill}` : '');
  return (await node.sh('rm -f /run/ipam.*; grep -c "killed by SIGKILL" /run/trace.ipam || true')) !== '0';
}

/**
 * Kills the attaching and the detaching call of a door at every system call that changes something, each point in a run of its own, and
 * cleans up in each way.
 * @param sampled how many points of a command `make test` tries, each with one of the ways to clean up; 0 where it leaves the file out
 * @param more what the machine needs beside
 */
export function describeCrashes(kind: string, door: Door, sampled: number, more: LabOptions = {}): void {
  let node: TestNode;
  let pristine: unknown;

  beforeAll(async () => {
    node = await TestNode.start({ ...more, pfs: 1, vfs: 2 });
    await door.prepare?.(node);
    await node.sh('modprobe vfio-pci'); // else only the first ADD would start modprobe
    await node.sh('mv /opt/cni/bin/host-local /opt/cni/bin/host-local.real');
    await node.machine.write('/opt/cni/bin/host-local', ipamStandIn, 0o755);
    // The first ADD of a node makes folders, and only that one.
    await makePod();
    await attach();
    await detach();
    pristine = await node.state();
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const attach = () => mustEnd(door.attach(node, 'p'));
  const detach = () => mustEnd(door.detach(node, 'p'));
  const nothing = () => Promise.resolve();
  const makePod = () => node.sh('ip netns list | grep -qw p || { ip netns add p; ip -n p link set lo up; }');

  /** Kills a command at each point, cleans up, compares; returns what went wrong. */
  async function tryPoints(
    name: string,
    chosen: readonly Try[],
    killed: (point: KillPoint) => Promise<boolean>,
  ): Promise<string[]> {
    const failures: string[] = [];
    let tried = 0;
    let missed = 0;
    for (const { point, recovery } of chosen) {
      const where = `${recovery}, after a kill of the ${point.victim} at ${point.call} ${point.n}`;
      try {
        await makePod();
        // How often the kernel is asked for news depends on how fast it is, and which thread does what is chance in an IPAM plugin.
        let isKilled = await killed(point);
        for (let tries = 1; !isKilled && tries < 3; tries++) {
          await detach();
          isKilled = await killed(point);
        }
        if (!isKilled && door.isServer) {
          await mustEnd(door.detach(node, 'p'));
          missed++;
          continue;
        }
        if (!isKilled && point.victim === 'plugin') throw new Error('was not killed');
        await door.recoveries[recovery]?.(node);
        if (point.victim !== 'plugin') await node.sh(afterIpamsDeath);
        const left = difference(pristine, await node.state());
        if (left) throw new Error(left);
        tried++;
      } catch (error) {
        failures.push(`${where}: ${(error as Error).message}`);
        console.log(failures.at(-1));
        // Go on from a clean node, so that one failure does not hide the others.
        await makePod();
        await node.machine.run(`/opt/cni/bin/sriov release ${door.device ?? common.deviceID} --force`);
        await door.detach(node, 'p');
        if (JSON.stringify(await node.state()) !== JSON.stringify(pristine))
          throw new Error(failures.join('\n'));
      }
    }
    console.log(`${kind}, ${name}: ${tried} of ${chosen.length} points recovered, ${missed} did not come`);
    // Of a few, chance may take all: what a daemon does between two requests shifts its calls.
    if (chosen.length > 3 && missed > chosen.length / 2)
      failures.push(`${missed} of ${chosen.length} points did not come`);
    return failures;
  }

  const found = new Map<Door['attach'], readonly KillPoint[]>();

  /** Where a call can be killed. Every recovery tries the same points, so they are looked for once. */
  async function pointsOf(
    call: Door['attach'],
    prepare: () => Promise<void>,
    cleanUp: () => Promise<void>,
  ): Promise<readonly KillPoint[]> {
    const known = found.get(call);
    if (known) return known;
    await makePod();
    const points: KillPoint[] = [];
    for (const find of door.hasIpam ? [changingPoints, childPoints] : [changingPoints]) {
      await prepare();
      points.push(...(await find(node, call)));
      await cleanUp();
    }
    found.set(call, points);
    return points;
  }

  const recoveries = Object.keys(door.recoveries);
  for (const ways of isSoak ? recoveries.map((recovery) => [recovery]) : [recoveries]) {
    const name = ways.length > 1 ? 'some points, cleaned up in any way' : ways.join();
    const choose = (points: readonly KillPoint[]): Try[] => {
      const all = ways.flatMap((recovery) => points.map((point) => ({ point, recovery })));
      return isSoak ? all : sample(all, sampled, seeded(seed));
    };

    test(`${kind}, attaching: ${name}`, { timeout: 14_400_000 }, async () => {
      const points = await pointsOf(door.attach, nothing, detach);
      const failures = await tryPoints(name, choose(points), (point) => runKilled(node, point, door.attach));
      expect(failures).toEqual([]);
    });

    test(`${kind}, detaching: ${name}`, { timeout: 14_400_000 }, async () => {
      const points = await pointsOf(door.detach, attach, nothing);
      const failures = await tryPoints(name, choose(points), async (point) => {
        await attach();
        return runKilled(node, point, door.detach);
      });
      expect(failures).toEqual([]);
    });
  }
}
