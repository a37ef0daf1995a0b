import { resolve } from 'node:path';
import { describe, expect } from 'vitest';
import { commonOptions as options, type Door, describeCrashes, mustEnd } from '../support/crash.ts';
import {
  call,
  createEndpoint,
  createNetwork,
  join,
  moveBack,
  moveIn,
  startDriver,
  traced,
} from '../support/docker-calls.ts';
import type { TestNode } from '../support/node.ts';

/** The id of an endpoint; Docker never gives one twice. */
let endpoints = 0;
let EndpointID = '';

/** What a container's start makes dockerd do: CreateEndpoint, Join, and the move. */
async function attach(node: TestNode, pod: string, wrapper = '') {
  await prepare(node);
  EndpointID = (++endpoints).toString(16).padStart(64, '0');
  return traced(node, wrapper, async () => {
    const created = await createEndpoint(node, EndpointID);
    if (created.code !== 0) return created;
    const joined = await join(node, EndpointID, pod);
    if (joined.code !== 0) return joined;
    await moveIn(node, pod);
    return joined;
  });
}

/** And its end: Leave, the move back, DeleteEndpoint. Docker goes on whatever it is answered. */
async function detach(node: TestNode, pod: string, wrapper = '') {
  await startDriver(node);
  return traced(node, wrapper, async () => {
    const left = await call(node, 'Leave', { EndpointID });
    await moveBack(node, pod);
    const deleted = await call(node, 'DeleteEndpoint', { EndpointID });
    return left.code === 0 ? deleted : left;
  });
}

/** Once on a node: the network. */
async function prepare(node: TestNode): Promise<void> {
  await startDriver(node);
  if ((await node.sh('ls /var/lib/cni/sriov/networks 2>/dev/null || true')) === '')
    await mustEnd(createNetwork(node, options));
}

/** Until the driver's own sweep has given everything back. */
async function untilSwept(node: TestNode): Promise<void> {
  await node.sh(`for i in $(seq 300); do [ -z "$(ls /var/lib/cni/sriov/claims)" ] && exit; sleep 0.1; done
    cat /run/driver.log /var/lib/cni/sriov/claims/* >&2; exit 1`);
}

const door: Door = {
  isServer: true,
  attach,
  detach,
  recoveries: {
    'the driver starts again': async (node) => {
      await moveBack(node, 'p');
      await startDriver(node);
      await untilSwept(node);
    },
    'the driver starts again, and Docker deletes the endpoint': async (node) => {
      await moveBack(node, 'p');
      await startDriver(node);
      await mustEnd(call(node, 'DeleteEndpoint', { EndpointID }));
      await untilSwept(node);
    },
    'the container dies and the operator runs sriov gc': async (node) => {
      await node.sh('ip netns del p; /opt/cni/bin/sriov gc >&2');
    },
    'the container dies and a pod wants the VF': async (node) => {
      await node.sh('ip netns del p');
      await node.pods('q');
      const config = { deviceID: options.deviceID };
      await node.add('q', config);
      expect((await node.link('net1', 'q')).parentdev).toBe(options.deviceID);
      await node.del('q', config);
      await node.sh('ip netns del q');
    },
  },
};

describe('killed at every system call that changes something', () =>
  describeCrashes('docker', door, 4, { files: { '/opt/sriov': resolve('dist/sriov') } }));
