import { describe, expect } from 'vitest';
import { commonOptions as options, type Door, describeCrashes, mustEnd } from '../support/crash.ts';
import { netavarkCall } from '../support/netavark-call.ts';
import type { TestNode } from '../support/node.ts';

const plugin =
  (command: 'setup' | 'teardown') =>
  async (node: TestNode, container: string, wrapper = '', netns = container) => {
    const { code, stdout, stderr } = await node.machine.run(
      `exec ${wrapper} /opt/cni/bin/sriov ${command} /run/netns/${netns}`,
      { stdin: netavarkCall(container) },
    );
    return { code, stderr: `${stdout}\n${stderr}` };
  };

const setup = plugin('setup');
const teardown = plugin('teardown');

const door: Door = {
  attach: setup,
  detach: teardown,
  recoveries: {
    'podman calls teardown': (node) => mustEnd(teardown(node, 'p')),
    'the same container starts again, and ends': async (node) => {
      await node.pods('again');
      await mustEnd(setup(node, 'p', '', 'again'));
      expect((await node.link('eth0', 'again')).parentdev).toBe(options.deviceID);
      await mustEnd(teardown(node, 'p', '', 'again'));
      await node.sh('ip netns del again');
    },
    'the container dies and the operator runs sriov gc': async (node) => {
      await node.sh('ip netns del p; /opt/cni/bin/sriov gc >&2');
    },
    'the container dies and the next one wants the VF': async (node) => {
      await node.sh('ip netns del p');
      await node.pods('q');
      await mustEnd(setup(node, 'q'));
      await mustEnd(teardown(node, 'q'));
      await node.sh('ip netns del q');
    },
  },
};

describe('killed at every system call that changes something', () => describeCrashes('podman', door, 4));
