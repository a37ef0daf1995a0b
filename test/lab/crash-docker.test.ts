import { resolve } from 'node:path';
import { describe, expect } from 'vitest';
import { commonOptions as options, type Door, describeCrashes, mustEnd } from '../support/crash.ts';
import type { TestNode } from '../support/node.ts';

const NetworkID = 'a'.repeat(64);
const lentName = 'v0110_0';

/** dockerd's part: one call, answered by a process that is gone at once. */
const dockerd = `
use IO::Socket::UNIX;
my ($call, $body) = @ARGV;
my $s = IO::Socket::UNIX->new(Peer => '/run/docker/plugins/sriov.sock') or die "connect: $!";
print $s "POST /NetworkDriver.$call HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: " . length($body) . "\\r\\n\\r\\n$body";
local $/; my $answer = <$s>; $answer =~ s/^.*?\\r\\n\\r\\n//s;
print $answer; exit($answer eq '' ? 137 : $answer =~ /"Err"/ ? 1 : 0);
`;

/** Starts the driver, if it does not run, and waits until it answers. */
async function startDriver(node: TestNode): Promise<void> {
  await node.sh(`
    kill -0 $(cat /run/driver.pid 2>/dev/null) 2>/dev/null && exit
    /opt/sriov docker > /run/driver.log 2>&1 & echo $! > /run/driver.pid
    for i in $(seq 600); do grep -q listens /run/driver.log && exit; sleep 0.1; done; cat /run/driver.log >&2; exit 1`);
}

async function call(node: TestNode, name: string, body: object) {
  const text = JSON.stringify({ NetworkID, ...body });
  const { code, stdout, stderr } = await node.machine.run(`exec perl /run/dockerd.pl ${name} '${text}'`);
  return { code, stderr: `${name}: ${stdout} ${stderr}` };
}

/** Does the work while the driver is traced or killed by strace, whose command line needs its process id behind it. */
async function traced<T>(node: TestNode, wrapper: string, work: () => Promise<T>): Promise<T> {
  if (wrapper === '') return work();
  await node.sh(`
    pid=$(cat /run/driver.pid)
    ${wrapper} -p $pid > /dev/null 2>&1 & echo $! > /run/strace.pid
    for i in $(seq 100); do grep -q 'TracerPid:[[:space:]]*[1-9]' /proc/$pid/status && exit; sleep 0.05; done; exit 1`);
  try {
    return await work();
  } finally {
    // It ends with the driver, or has to let it go.
    await node.sh(`pid=$(cat /run/strace.pid); kill $pid 2>/dev/null || true
      for i in $(seq 100); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.05; done; exit 1`);
  }
}

/** The id of an endpoint; Docker never gives one twice. */
let endpoints = 0;
let EndpointID = '';

/** What a container's start makes dockerd do: CreateEndpoint, Join, and the move. */
async function attach(node: TestNode, pod: string, wrapper = '') {
  await prepare(node);
  EndpointID = (++endpoints).toString(16).padStart(64, '0');
  const Interface = { Address: '10.9.0.2/24', AddressIPv6: '', MacAddress: '02:00:00:00:c0:01' };
  return traced(node, wrapper, async () => {
    const created = await call(node, 'CreateEndpoint', { EndpointID, Interface, Options: {} });
    if (created.code !== 0) return created;
    const joined = await call(node, 'Join', { EndpointID, SandboxKey: `/run/netns/${pod}` });
    if (joined.code !== 0) return joined;
    await node.sh(`ip link set ${lentName} netns ${pod}; ip -n ${pod} link set ${lentName} name eth0 up`);
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

async function moveBack(node: TestNode, pod: string): Promise<void> {
  await node.sh(`ip -n ${pod} link show eth0 > /dev/null 2>&1 || exit 0
    ip -n ${pod} link set eth0 down; ip -n ${pod} link set eth0 name ${lentName}; ip -n ${pod} link set ${lentName} netns 1`);
}

/** Once on a node: the client, and the network. */
async function prepare(node: TestNode): Promise<void> {
  await node.machine.write('/run/dockerd.pl', dockerd);
  await startDriver(node);
  const Options = { 'com.docker.network.generic': options };
  if ((await node.sh('ls /var/lib/cni/sriov/networks 2>/dev/null || true')) === '')
    await mustEnd(call(node, 'CreateNetwork', { Options, IPv4Data: [{ Gateway: '10.9.0.1/24' }] }));
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
  describeCrashes('docker', door, 1, { files: { '/opt/sriov': resolve('dist/sriov') } }));
