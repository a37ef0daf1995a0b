import { resolve } from 'node:path';
import { describe } from 'vitest';
import { commonOptions as options } from '../support/crash.ts';
import {
  call,
  createEndpoint,
  createNetwork,
  type DriverAnswer,
  join,
  moveBack,
  moveIn,
  startDriver,
  traced,
} from '../support/docker-calls.ts';
import { complaintsAbout, describeDoorErrors, type ErrorDoor } from '../support/error-door.ts';
import { difference, TestNode } from '../support/node.ts';
import { placeOf } from '../support/plausible-errors.ts';
import { isSoak } from '../support/random.ts';
import type { TracedCall } from '../support/strace.ts';

/** Another network than that of the endpoints. */
const otherNetwork = 'b'.repeat(64);

const isAnswer = ({ line }: TracedCall) => /^writev?\(.*"HTTP\/1\.1 /.test(line);

/**
 * From where the driver has read the call to its answer. Node's own queue (eventfds, epoll) is left out: libuv ends the process where that
 * fails, whatever we do.
 */
function betweenRequestAndAnswer(calls: readonly TracedCall[]): TracedCall[] {
  const begin = calls.findIndex(({ line }) => /^read\(.*"POST \/NetworkDriver/.test(line));
  const end = calls.findIndex((one, index) => index > begin && isAnswer(one));
  if (begin < 0) return [];
  return calls
    .slice(begin + 1, end < 0 ? undefined : end + 1)
    .filter(({ target, name }) => target !== 'anon_inode' && !name.startsWith('epoll'));
}

/** dockerd's calls to a driver that goes on from one to the next, whatever happened in it. */
function doorOf(node: TestNode, firstPid: string): ErrorDoor {
  let pid = firstPid;
  let endpoints = 0;
  /** How many descriptors the driver has open between two calls. */
  let descriptors = 0;
  let EndpointID = '';
  const must = async (made: Promise<DriverAnswer>) => {
    const { code, stderr } = await made;
    if (code !== 0) throw new Error(`without the error it fails: ${stderr}`);
  };
  const gc = () => node.sh('/opt/cni/bin/sriov gc >&2');
  /** Those of the driver, when they have become that few, or a second later: a connection is closed after its answer. */
  const openDescriptors = async (few: number) => {
    const names = await node.sh(`cd /proc/${pid}/fd 2> /dev/null || exit 0
      for i in $(seq 20); do [ $(ls | wc -l) -le ${few} ] && break; sleep 0.05; done; readlink *`);
    return names.split('\n');
  };
  const makePod = () => node.sh('ip netns list | grep -qw p || { ip netns add p; ip -n p link set lo up; }');
  const newEndpoint = () => {
    EndpointID = (++endpoints).toString(16).padStart(64, '0');
  };
  // For as long as a call and what comes after it take: without its dockerd an endpoint is nobody's.
  const create = () => createEndpoint(node, EndpointID, 120);
  const joinPod = () => join(node, EndpointID, 'p');
  const leave = () => call(node, 'Leave', { EndpointID });
  const remove = () => call(node, 'DeleteEndpoint', { EndpointID });
  const attach = async () => {
    await makePod();
    newEndpoint();
    await must(create());
    await must(joinPod());
    await moveIn(node, 'p');
  };
  const run = (made: () => Promise<DriverAnswer>) => (strace: string) => traced(node, strace, made);
  /** What Join says, which is no other where an error was survived. */
  let joined = '';
  const expectJoined = async () => {
    const { text } = await joinPod();
    if (text !== joined) throw new Error(`Join answers ${text} and not ${joined}`);
  };
  /** A call without an error has given back everything at once; dockerd forgets the endpoint of one that ended with an error. */
  const end = async ({ code }: DriverAnswer, way: number) => {
    if (code === 0) return;
    if (way % 2 === 0) return must(remove());
    await node.sh('ip netns del p');
    await gc();
  };
  return {
    name: 'docker',
    injecting: (name, injection) =>
      `strace -y -s 96 -o /run/trace.docker -e trace=${name},read,write,writev -e inject=${name}:${injection}`,
    own: betweenRequestAndAnswer,
    errorsAt: (one) => (isAnswer(one) ? ['EAGAIN', 'EPIPE'] : undefined),
    judge: ({ code, text, stderr }, hit) => {
      // Whoever has lost its answer asks again, as after a kill.
      if (isAnswer(hit) && text === '') return [];
      if (placeOf(hit) === 'log' && code !== 0) return ['a log line that cannot be written fails the call'];
      try {
        const { Err } = JSON.parse(text) as { Err?: string };
        return Err === undefined ? [] : complaintsAbout(Err);
      } catch {
        return [`it is answered with no JSON: ${code} ${stderr}`];
      }
    },
    // One that a call lost would be the driver's until it ends: of a socket or a namespace, a VF in there as well.
    state: async () => {
      await must(call(node, 'GetCapabilities', {}));
      if ((await node.sh('cat /run/driver.pid')) !== pid) throw new Error('the driver has ended');
      const open = await openDescriptors(descriptors);
      if (open.length > descriptors)
        throw new Error(`the driver keeps open: ${open.join(' ')}, and no ${descriptors}`);
      return node.state();
    },
    // A network that could not be deleted is still Docker's.
    isRecorded: async () =>
      (await node.sh(`cd /var/lib/cni/sriov; ls claims; ls networks | grep ^${otherNetwork} || true`)) !== '',
    clean: async () => {
      await makePod();
      if (descriptors > 0 && (await openDescriptors(descriptors)).length > descriptors) await node.kill(pid);
      await startDriver(node);
      pid = await node.sh('cat /run/driver.pid');
      await moveBack(node, 'p');
      await remove();
      await node.machine.run(`/opt/cni/bin/sriov release ${options.deviceID} --force`);
      await call(node, 'DeleteNetwork', { NetworkID: otherNetwork });
      newEndpoint();
      await must(create());
      joined = (await joinPod()).text;
      await must(remove());
      descriptors = (await openDescriptors(0)).length;
    },
    calls: {
      CreateEndpoint: {
        prepare: () => Promise.resolve(newEndpoint()),
        run: run(create),
        goOn: async (answer, way) => {
          // Docker knows nothing of an endpoint whose call ended with an error, nor of one that it got no answer for.
          if (answer.code !== 0 && way % 2 === 0) return gc();
          await must(create());
          await expectJoined();
          await must(remove());
        },
      },
      Join: {
        prepare: async () => {
          newEndpoint();
          await must(create());
        },
        run: run(joinPod),
        goOn: async ({ code, text }, way) => {
          if (code === 0 && text !== joined) throw new Error(`it answers ${text} and not ${joined}`);
          if (code !== 0 && way % 2 === 0) await expectJoined();
          await must(remove());
        },
      },
      Leave: {
        prepare: attach,
        run: run(leave),
        goOn: async () => {
          await moveBack(node, 'p');
          await must(remove());
        },
      },
      DeleteEndpoint: {
        prepare: async () => {
          await attach();
          await must(leave());
          await moveBack(node, 'p');
        },
        run: run(remove),
        goOn: end,
      },
      'DeleteEndpoint of what Docker left in the container': {
        prepare: async () => {
          await attach();
          await must(leave());
        },
        run: run(remove),
        goOn: end,
      },
      CreateNetwork: {
        prepare: () => Promise.resolve(),
        run: run(() => createNetwork(node, options, otherNetwork)),
        goOn: async ({ code }, way) => {
          // Docker knows no network whose call ended with an error.
          if (code !== 0 && way % 2 === 0) return;
          await must(createNetwork(node, options, otherNetwork));
          const record = await node.sh(`cat /var/lib/cni/sriov/networks/${otherNetwork}.json`);
          const differs = difference(options, (JSON.parse(record) as { options: unknown }).options);
          if (differs) throw new Error(`written down otherwise: ${differs}`);
          await must(call(node, 'DeleteNetwork', { NetworkID: otherNetwork }));
        },
      },
      DeleteNetwork: {
        prepare: () => must(createNetwork(node, options, otherNetwork)),
        run: run(() => call(node, 'DeleteNetwork', { NetworkID: otherNetwork })),
        goOn: async ({ code }) => {
          if (code !== 0) await must(call(node, 'DeleteNetwork', { NetworkID: otherNetwork }));
        },
      },
    },
  };
}

// `make test` leaves it out: a machine of its own for a few points.
describe.runIf(isSoak)('an error at a system call', () =>
  describeDoorErrors(
    'docker',
    {
      CreateEndpoint: 0,
      Join: 0,
      Leave: 0,
      DeleteEndpoint: 0,
      'DeleteEndpoint of what Docker left in the container': 0,
      CreateNetwork: 0,
      DeleteNetwork: 0,
    },
    async () => {
      const node = await TestNode.start({ pfs: 1, vfs: 2, files: { '/opt/sriov': resolve('dist/sriov') } });
      await node.sh(`ip link set $(ls /sys/bus/pci/devices/${options.deviceID}/net) name vf0`);
      await startDriver(node);
      const { code, stderr } = await createNetwork(node, options);
      if (code !== 0) throw new Error(stderr);
      return { node, doors: [doorOf(node, await node.sh('cat /run/driver.pid'))] };
    },
  ),
);
