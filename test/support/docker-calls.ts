import type { TestNode } from './node.ts';

/** The network of all calls that name none. */
export const NetworkID = 'a'.repeat(64);

/** The only MAC of these endpoints: not the VF's own, so its driver is reloaded. */
const MacAddress = '02:00:00:00:c0:01';

/** What Docker sees of VF 0 of the first card. */
const lentName = 'v0110_0';

/**
 * dockerd's part: one call. Its exit code says how it was answered. Whoever made the call is gone at once, as a dockerd that was killed is, or
 * lives on for so many seconds.
 */
const client = `
use IO::Socket::UNIX;
my ($call, $body, $seconds) = @ARGV;
if ($seconds) {
  pipe my $from, my $to;
  if (fork) { # what it is told is ours to tell
    close $to; local $/; my $answer = <$from>; print $answer; exit($answer eq '' ? 137 : $answer =~ /"Err"/ ? 1 : 0);
  }
  open STDOUT, '>&', $to; close $to; close $from; close STDERR; close STDIN;
}
my $s = IO::Socket::UNIX->new(Peer => '/run/docker/plugins/sriov.sock') or die "connect: $!";
print $s "POST /NetworkDriver.$call HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: " . length($body) . "\\r\\n\\r\\n$body";
local $/; my $answer = <$s>; $answer =~ s/^.*?\\r\\n\\r\\n//s;
if ($seconds) { print $answer; close STDOUT; close $s; sleep $seconds; exit }
print $answer; exit($answer eq '' ? 137 : $answer =~ /"Err"/ ? 1 : 0);
`;

/** How a call ended. */
export interface DriverAnswer {
  /** 0: well; 1: with an error; 137: with nothing */
  readonly code: number;
  readonly text: string;
  /** All that was said, for whoever reads of a failure. */
  readonly stderr: string;
}

/** Starts the driver, if it does not run, and waits until it answers. */
export async function startDriver(node: TestNode): Promise<void> {
  await node.machine.write('/run/dockerd.pl', client);
  await node.sh(`
    kill -0 $(cat /run/driver.pid 2>/dev/null) 2>/dev/null && exit
    /opt/sriov docker > /run/driver.log 2>&1 & echo $! > /run/driver.pid
    for i in $(seq 600); do grep -q listens /run/driver.log && exit; sleep 0.1; done; cat /run/driver.log >&2; exit 1`);
}

/**
 * Makes a call of libnetwork's.
 * @param seconds how long whoever makes it lives on
 */
export async function call(node: TestNode, name: string, body: object, seconds = 0): Promise<DriverAnswer> {
  const text = JSON.stringify({ NetworkID, ...body });
  const command = `exec perl /run/dockerd.pl ${name} '${text}' ${seconds}`;
  const { code, stdout, stderr } = await node.machine.run(command);
  return { code, text: stdout, stderr: `${name}: ${stdout} ${stderr}` };
}

/** Does the work while the driver's main thread is traced by strace, whose command line needs its process id behind it. */
export async function traced<T>(node: TestNode, wrapper: string, work: () => Promise<T>): Promise<T> {
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

/** Makes a network with these options. */
export function createNetwork(node: TestNode, options: object, id = NetworkID): Promise<DriverAnswer> {
  const Options = { 'com.docker.network.generic': options };
  return call(node, 'CreateNetwork', { NetworkID: id, Options, IPv4Data: [{ Gateway: '10.9.0.1/24' }] });
}

export function createEndpoint(node: TestNode, EndpointID: string, seconds = 0): Promise<DriverAnswer> {
  const Interface = { Address: '10.9.0.2/24', AddressIPv6: '', MacAddress };
  return call(node, 'CreateEndpoint', { EndpointID, Interface, Options: {} }, seconds);
}

export function join(node: TestNode, EndpointID: string, pod: string): Promise<DriverAnswer> {
  return call(node, 'Join', { EndpointID, SandboxKey: `/run/netns/${pod}` });
}

/** What dockerd does with the netdev after Join. */
export async function moveIn(node: TestNode, pod: string): Promise<void> {
  await node.sh(`ip link set ${lentName} netns ${pod}; ip -n ${pod} link set ${lentName} name eth0 up`);
}

/** And after Leave, if it is there. */
export async function moveBack(node: TestNode, pod: string): Promise<void> {
  await node.sh(`ip -n ${pod} link show eth0 > /dev/null 2>&1 || exit 0
    ip -n ${pod} link set eth0 down; ip -n ${pod} link set eth0 name ${lentName}; ip -n ${pod} link set ${lentName} netns 1`);
}
