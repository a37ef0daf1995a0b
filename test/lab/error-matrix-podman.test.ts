import { describe } from 'vitest';
import {
  complaintsAbout,
  describeDoorErrors,
  type DoorAnswer,
  type ErrorDoor,
} from '../support/error-door.ts';
import { netavarkCall } from '../support/netavark-call.ts';
import { difference, pfPci, TestNode, vfPci } from '../support/node.ts';
import { placeOf } from '../support/plausible-errors.ts';
import { injecting } from '../support/strace.ts';

const lanes = 3;

/** Podman's calls for a container with a card of its own. */
function doorOf(node: TestNode, card: number): ErrorDoor {
  const pod = `p${card}`;
  const deviceID = vfPci(card, 0);
  const stdin = netavarkCall(pod, { deviceID }, { network: `net${card}`, mac: `02:00:00:00:c${card}:01` });
  const plugin = async (command: 'setup' | 'teardown', wrapper = ''): Promise<DoorAnswer> => {
    const { code, stdout, stderr } = await node.machine.run(
      `exec ${wrapper} /opt/cni/bin/sriov ${command} /run/netns/${pod}`,
      { stdin, timeoutMs: 150_000 },
    );
    return { code, text: stdout, stderr };
  };
  const must = async (command: 'setup' | 'teardown') => {
    const { code, text } = await plugin(command);
    if (code !== 0) throw new Error(`the ${command} without the error fails: ${text}`);
  };
  const makePod = () =>
    node.sh(`ip netns list | grep -qw ${pod} || { ip netns add ${pod}; ip -n ${pod} link set lo up; }`);
  // What gc does, for this device alone: others are at work beside.
  const gc = () =>
    node.sh(
      `/opt/cni/bin/sriov release ${deviceID} >&2 || [ ! -e /var/lib/cni/sriov/claims/${deviceID}.json ]`,
    );
  const endOfPod = () => node.sh(`ip netns del ${pod}`);
  const inPod = () =>
    node.sh(`ip -n ${pod} -j addr show | jq -c '.[] | {ifname, address, mtu, operstate: (.flags | index("UP")),
      addresses: [.addr_info[] | select(.scope != "link") | .local]}'; ip -n ${pod} route | sort`);
  let attached = '';
  return {
    name: pod,
    injecting: (call, injection, isQuick) => injecting(pod, call, injection, isQuick),
    // Where an error is put, only calls of that name are in the trace.
    own: (calls) => {
      const begin = calls.findIndex(({ name, target }) => name.startsWith('read') && target === 'stdin');
      return calls.slice(Math.max(begin, 0));
    },
    judge: ({ code, text, stderr }, hit) => {
      const wrong = [0, 1].includes(code) ? [] : [`exit code ${code}`];
      if (placeOf(hit) === 'log' && code !== 0)
        wrong.push('a log line that cannot be written fails the call');
      if (code === 0 || placeOf(hit) === 'answer') return wrong;
      try {
        return [...wrong, ...complaintsAbout((JSON.parse(text) as { error: string }).error)];
      } catch {
        return [...wrong, `stdout is no error in JSON: ${text} ${stderr}`];
      }
    },
    state: async () => {
      const { links, rest } = await node.state();
      const slot = pfPci(card).slice(0, -'00.0'.length);
      return {
        links: links.filter(({ parentdev }) => parentdev?.includes(slot)),
        rest: rest.split('\n').filter((line) => line.includes(slot)),
      };
    },
    isRecorded: async () =>
      (await node.sh(`ls /var/lib/cni/sriov/claims | grep -c '${deviceID}.*json$' || true`)) !== '0',
    clean: async () => {
      await makePod();
      await plugin('teardown');
      await must('setup');
      attached = await inPod();
      await must('teardown');
    },
    calls: {
      setup: {
        prepare: makePod,
        run: (strace) => plugin('setup', strace),
        goOn: async ({ code }, way) => {
          const missing = code === 0 ? difference(attached, await inPod()) : '';
          if (missing) throw new Error(`exit code 0, but not attached as it should be: ${missing}`);
          // After an error netavark calls nothing more, and the container's next start comes in another namespace.
          if (code === 0 || way % 3 === 0) return must('teardown');
          await endOfPod();
          if (way % 3 === 1) return gc();
          await makePod();
          await must('setup');
          await must('teardown');
        },
      },
      teardown: {
        prepare: async () => {
          await makePod();
          await must('setup');
        },
        run: (strace) => plugin('teardown', strace),
        goOn: async ({ code }, way) => {
          if (code === 0) return;
          if (way % 2 === 0) return must('teardown');
          await endOfPod();
          await gc();
        },
      },
      'teardown of a container whose namespace is gone': {
        prepare: async () => {
          await makePod();
          await must('setup');
          await endOfPod();
        },
        run: (strace) => plugin('teardown', strace),
        goOn: async ({ code }, way) => {
          if (code !== 0) await (way % 2 === 0 ? must('teardown') : gc());
        },
      },
    },
  };
}

describe('an error at a system call', () =>
  describeDoorErrors(
    'podman',
    { setup: 3, teardown: 3, 'teardown of a container whose namespace is gone': 0 },
    async () => {
      const node = await TestNode.start({ pfs: lanes, vfs: 1 });
      // The kernel gives a reloaded driver's netdev the first free "eth": no name of ours may be one.
      for (let card = 0; card < lanes; card++)
        await node.sh(`ip link set $(ls /sys/bus/pci/devices/${vfPci(card, 0)}/net) name vf${card}`);
      return { node, doors: Array.from({ length: lanes }, (_, card) => doorOf(node, card)) };
    },
  ));
