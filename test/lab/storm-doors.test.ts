import { expect, test } from 'vitest';
import { DockerNode } from '../support/docker.ts';
import { difference, hostLocal, pfPci } from '../support/node.ts';
import { PodmanNode } from '../support/podman.ts';
import { isSoak, type Random, seed, seeded } from '../support/random.ts';
import { whoHasWhich } from '../support/storm.ts';

const operations = 200;
const story = `${operations} containers of Docker, Podman and CNI on one PF: no VF is lost or given twice`;
// Minutes of containers that start and end: only `make soak` has it.
const rarely = test.runIf(isSoak);
const atOnce = 5;
const driverDiesAfter = 15;

/** A way in: how a container of it begins, with which namespace, and the ways it can end. */
interface Door {
  readonly name: 'docker' | 'podman' | 'cni';
  readonly start: (container: string) => Promise<{ code: number; said: string }>;
  /** Its namespace, as `ip -n` takes it. */
  readonly netns: (container: string) => Promise<string>;
  readonly ends: readonly ((container: string) => Promise<unknown>)[];
}

interface Container {
  readonly name: string;
  readonly door: Door;
  isBusy: boolean;
  /** Where it is and which VF it has. */
  place: { readonly netns: string; readonly vf: string } | undefined;
}

rarely(story, { timeout: 3_600_000 }, async () => {
  await using docker = await DockerNode.start('bookworm', {
    vfs: 7,
    disks: ['podman-trixie'],
    processors: 2,
  });
  const { node } = docker;
  const podman = await PodmanNode.on(node);
  await docker.network('net', '--subnet 10.9.0.0/24 -o vlan=100');
  await podman.network('net', '--subnet 10.9.0.0/24 --opt vlan=100');
  const config = { pf: pfPci(0), vlan: 100, ipam: hostLocal('10.8.0.0/24') };
  const pristine = await node.state();

  const byCommand = (command: 'docker' | 'podman', image: string, remove: string): Omit<Door, 'netns'> => ({
    name: command,
    start: async (name) => {
      const { code, stderr } = await node.machine.run(
        `${command} run -d --name ${name} --network net ${image}`,
      );
      if (code !== 0) await node.sh(`${command} ${remove} ${name}`);
      return { code, said: stderr };
    },
    ends: [
      (name) => node.sh(`${command} ${remove} ${name}`),
      (name) => node.sh(`${command} stop -t 0 ${name}; ${command} ${remove} ${name}`),
      (name) =>
        node.sh(`pid=$(${command} inspect -f '{{.State.Pid}}' ${name}); [ $pid -gt 1 ] && kill -9 $pid
          ${command} ${remove} ${name}`),
    ],
  });
  const doors: readonly Door[] = [
    { ...byCommand('docker', 'pause:1', 'rm -f'), netns: (name) => docker.netns(name) },
    { ...byCommand('podman', 'localhost/pause:1', 'rm -f -t 0'), netns: (name) => podman.netns(name) },
    {
      name: 'cni',
      start: async (name) => {
        await node.pods(name);
        const { code, answer } = await node.cni('ADD', name, config);
        if (code !== 0) await node.sh(`ip netns del ${name}`);
        return { code, said: answer?.msg ?? '' };
      },
      netns: (name) => Promise.resolve(name),
      ends: [
        async (name) => {
          await node.del(name, config);
          await node.sh(`ip netns del ${name}`);
        },
        async (name) => {
          await node.sh(`ip netns del ${name}`);
          await node.del(name, config, { netns: '' });
        },
      ],
    },
  ];
  const containers = doors.flatMap((door) =>
    [1, 2, 3, 4].map((n): Container => ({ name: `${door.name}${n}`, door, isBusy: false, place: undefined })),
  );

  const random = seeded(seed);
  const figures = { started: 0, refused: 0, interrupted: 0, ended: 0, driverKilled: 0, looks: 0 };

  async function start(container: Container): Promise<void> {
    const { code, said } = await container.door.start(container.name);
    if (code !== 0) {
      // All in use, or another call works on the only one that is left.
      if (/is free: all 7 are in use|is busy/.test(said)) figures.refused++;
      // The driver was killed inside the call.
      else if (container.door.name === 'docker' && /repeats a call|EOF|reset by peer/.test(said))
        figures.interrupted++;
      else throw new Error(`${container.name} did not start: ${said}\n${await docker.logs()}`);
      return;
    }
    const netns = await container.door.netns(container.name);
    const vf = (await node.links(netns)).find(({ parentdev }) => parentdev !== undefined)?.parentdev;
    if (vf === undefined) throw new Error(`${container.name} has no VF`);
    const other = containers.find((one) => one !== container && one.place?.vf === vf && !one.isBusy);
    if (other) throw new Error(`VF ${vf} was given to ${container.name}, but ${other.name} has it`);
    container.place = { netns, vf };
    figures.started++;
  }

  async function end(container: Container, chance: Random): Promise<void> {
    container.place = undefined;
    await chance.pick(container.door.ends)(container.name);
    figures.ended++;
  }

  let left = operations;
  async function worker(): Promise<void> {
    while (left > 0) {
      const container = random.pick(containers.filter(({ isBusy }) => !isBusy));
      if (--left % driverDiesAfter === 0) {
        await docker.killDriver();
        figures.driverKilled++;
      }
      container.isBusy = true;
      try {
        await (container.place ? end(container, random) : start(container));
      } catch (error) {
        left = 0; // the others end, too
        throw error;
      } finally {
        container.isBusy = false;
      }
    }
  }

  async function observe(): Promise<void> {
    while (left > 0) {
      const before = containers.flatMap(({ isBusy, name, place }) =>
        place && !isBusy ? [{ name, place }] : [],
      );
      const seen = await whoHasWhich(
        node,
        before.map(({ place }) => ({ name: place.netns, vf: place.vf, isDpdk: false })),
      );
      for (const { name, place } of before) {
        const container = containers.find((one) => one.name === name);
        if (container?.isBusy !== false || container.place !== place) continue;
        if (!seen.has(`${place.vf} ${place.netns}`)) throw new Error(`${name} has lost its VF ${place.vf}`);
        figures.looks++;
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  const outcomes = await Promise.allSettled([...Array.from({ length: atOnce }, worker), observe()]);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
  for (const container of containers) if (container.place) await end(container, random);
  console.log(figures);
  expect(figures.looks).toBeGreaterThan(0);
  // What a driver that was killed could not finish is swept by the next one.
  await expect
    .poll(async () => difference(pristine, await node.state()), { timeout: 90_000, interval: 1000 })
    .toBe('');
});
