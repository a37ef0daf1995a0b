import { describe, expect } from 'vitest';
import { commonOptions as options, type Door, describeCrashes, mustEnd } from '../support/crash.ts';
import type { TestNode } from '../support/node.ts';

/** What netavark sends for a container. */
const stdin = (container: string) =>
  JSON.stringify({
    container_id: container,
    container_name: container,
    port_mappings: null,
    network: {
      name: 'fast',
      options,
      subnets: [{ subnet: '10.9.0.0/24', gateway: '10.9.0.1', lease_range: null }],
      internal: false,
    },
    network_options: {
      interface_name: 'eth0',
      static_ips: ['10.9.0.2'],
      static_mac: '02:00:00:00:c0:01',
      options: null,
    },
  });

const plugin =
  (command: 'setup' | 'teardown') =>
  async (node: TestNode, container: string, wrapper = '', netns = container) => {
    const { code, stdout, stderr } = await node.machine.run(
      `exec ${wrapper} /opt/cni/bin/sriov ${command} /run/netns/${netns}`,
      { stdin: stdin(container) },
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

describe('killed at every system call that changes something', () => describeCrashes('podman', door, 2));
