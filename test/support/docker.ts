import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Disk } from '../../lab/packages.ts';
import { pfPci, TestNode } from './node.ts';

/** dockerd of Debian bookworm (20.10, moves links after all calls), and the newest of Debian sid (28 or later, within Join). */
export type DockerRelease = 'bookworm' | 'sid';

const diskOf: Readonly<Record<DockerRelease, Disk>> = { bookworm: 'docker', sid: 'docker-sid' };

/** Of a unit in deploy/: what the driver's supervisor here does as systemd would. */
function unitValue(unit: 'service' | 'socket', key: string): string {
  const text = readFileSync(`deploy/sriov-docker.${unit}`, 'utf8');
  const value = new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1];
  if (value === undefined) throw new Error(`sriov-docker.${unit} has no ${key}`);
  return value;
}

const [driverPath = '', ...driverArgs] = unitValue('service', 'ExecStart').split(' ');
const driverSocket = unitValue('socket', 'ListenStream');

/**
 * What systemd does for the two units: listens, starts the driver with the socket as descriptor 3, and starts it again whenever it ends.
 * Its words: the socket's path, a file for the driver's process id, the driver's command line.
 */
const supervisor = `
use strict; use IO::Socket::UNIX; use POSIX ();
my ($path, $pid_file, @command) = @ARGV;
$^F = 10; # else the socket would be closed by exec
umask 0177; unlink $path;
my $socket = IO::Socket::UNIX->new(Local => $path, Listen => 128) or die "$path: $!";
umask 022;
my ($child, $is_over);
$SIG{TERM} = sub { $is_over = 1; kill TERM => $child if $child };
until ($is_over) {
  $child = fork;
  if (!$child) {
    POSIX::dup2(fileno $socket, 3);
    @ENV{'LISTEN_PID', 'LISTEN_FDS'} = ($$, 1);
    exec @command;
  }
  open my $file, '>', $pid_file; print $file "$child\\n"; close $file;
  1 while waitpid($child, 0) != $child;
  select undef, undef, undef, 0.1;
}
unlink $path;
`;

/** What `docker inspect` says of a container in a network. */
export interface Inspected {
  readonly IPAddress: string;
  readonly GlobalIPv6Address: string;
  readonly Gateway: string;
  readonly MacAddress: string;
}

const dataRoot = '/var/lib/docker';
const dockerd = [
  'dockerd',
  `--data-root=${dataRoot}`,
  '--exec-root=/run/docker',
  // The root of the lab is an overlay, which cannot carry another.
  '--storage-driver=vfs',
  '--bridge=none',
  '--iptables=false',
  '--ip6tables=false',
  '--ip-forward=false',
  '--userland-proxy=false',
  '--cgroup-parent=/x',
].join(' ');

/** A node with dockerd, our driver as its units would run it, and VFs on its cards. The plugin for CNI is there, too. */
export class DockerNode implements AsyncDisposable {
  readonly node: TestNode;

  private constructor(node: TestNode) {
    this.node = node;
  }

  /** Starts everything. `disks`: more software. */
  static async start(
    release: DockerRelease,
    options: { pfs?: number; vfs: number; disks?: readonly Disk[]; processors?: number },
  ): Promise<DockerNode> {
    const { disks = [], ...cards } = options;
    // The static executable does not have the driver.
    const files = { [driverPath]: resolve('dist/sriov') };
    const node = await TestNode.start({ pfs: 1, ...cards, disks: [diskOf[release], ...disks], files });
    const docker = new DockerNode(node);
    await node.machine.write('/run/supervisor.pl', supervisor);
    await node.sh(`
      modprobe -a bridge veth
      mkdir -p ${dataRoot}; mount -t tmpfs tmpfs ${dataRoot}
      [ -L /var/run ] || { rm -rf /var/run; ln -s /run /var/run; } # as every Debian has it
      touch /etc/resolv.conf`);
    await docker.startDriver();
    await docker.startDaemon();
    await node.sh(`
      mkdir -p /run/pause/bin; cp /bin/busybox /run/pause/bin
      tar -C /run/pause -c bin | docker import -c 'CMD ["/bin/busybox", "sleep", "1000000"]' - pause:1`);
    return docker;
  }

  async startDriver(): Promise<void> {
    await this.node.sh(`
      mkdir -p $(dirname ${driverSocket})
      setsid perl /run/supervisor.pl ${driverSocket} /run/driver.pid ${driverPath} ${driverArgs.join(' ')} \\
        < /dev/null >> /run/driver.log 2>&1 & echo $! > /run/supervisor.pid
      until [ -S ${driverSocket} ]; do sleep 0.05; done`);
  }

  /** As `systemctl stop` of both units. */
  async stopDriver(): Promise<void> {
    await this.node.sh(`kill $(cat /run/supervisor.pid)
      while [ -d /proc/$(cat /run/supervisor.pid) ]; do sleep 0.05; done`);
  }

  /** Kills the driver; the supervisor starts another on the same socket. */
  async killDriver(): Promise<void> {
    await this.node.sh('kill -9 $(cat /run/driver.pid)');
  }

  async startDaemon(): Promise<void> {
    await this.node.sh(`
      start() { setsid ${dockerd} < /dev/null >> /run/dockerd.log 2>&1 & echo $! > /run/dockerd.pid; }
      start
      for ((; SECONDS < 180;)); do
        docker version > /dev/null 2>&1 && exit
        kill -0 $(cat /run/dockerd.pid) 2> /dev/null || start # it gives its containerd 15 s, which a busy machine may need
        sleep 0.25
      done
      tail -n 20 /run/dockerd.log >&2; exit 1`);
  }

  /** `kill -9` of dockerd alone: containerd, shims and containers live on. */
  async killDaemon(): Promise<void> {
    await this.node
      .sh(`pid=$(cat /run/dockerd.pid); kill -9 $pid; while [ -d /proc/$pid ]; do sleep 0.05; done
      rm -f /var/run/docker.pid`);
  }

  /** After a test that failed: dockerd and the driver run, whatever it did to them. */
  async revive(): Promise<void> {
    const runs = async (file: string) => (await this.node.machine.run(`kill -0 $(cat ${file})`)).code === 0;
    if (!(await runs('/run/supervisor.pid'))) await this.startDriver();
    if (!(await runs('/run/dockerd.pid'))) await this.startDaemon();
  }

  /** What dockerd asks at start, but it can be told while it runs. */
  async liveRestore(isOn: boolean): Promise<void> {
    await this.node.machine.write('/etc/docker/daemon.json', JSON.stringify({ 'live-restore': isOn }));
    await this.node.sh(`kill -HUP $(cat /run/dockerd.pid)
      until [ "$(docker info -f '{{.LiveRestoreEnabled}}')" = ${isOn} ]; do sleep 0.1; done`);
  }

  /**
   * What a reboot ends: every process of Docker's and ours, namespaces, all of /run, the VFs; another boot id. What is on disk stays. Then the
   * units start in their order.
   */
  async reboot(vfs: number): Promise<void> {
    await this.node.sh(`
      kill -9 $(cat /run/supervisor.pid /run/driver.pid /run/dockerd.pid)
      while pkill -KILL containerd || pkill -KILL -x busybox; do sleep 0.05; done # the shims, too
      for at in $(cut -d' ' -f2 /proc/mounts | grep -E '^(/run/docker/|${dataRoot}/)'); do umount -l $at; done
      rm -rf /run/docker /run/docker.pid /run/docker.sock /run/containerd
      until [ "$(ls -d /sys/bus/pci/devices/${pfPci(0)}/virtfn*/net/* | wc -l)" = ${vfs} ]; do sleep 0.1; done
      echo 0 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
      echo ${vfs} > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
      cat /proc/sys/kernel/random/uuid > /run/boot-id
      mount --bind /run/boot-id /proc/sys/kernel/random/boot_id`);
    await this.startDriver();
    await this.startDaemon();
  }

  /** Makes a network on the first card. */
  async network(name: string, options: string): Promise<void> {
    await this.node.sh(`docker network create -d sriov -o pf=${pfPci(0)} ${options} ${name}`);
  }

  /** Starts a container that sleeps. */
  async run(name: string, options: string): Promise<void> {
    const { code, stderr } = await this.tryRun(name, options);
    if (code !== 0) throw new Error(`docker run failed: ${stderr}\n${await this.logs()}`);
  }

  tryRun(name: string, options: string) {
    return this.node.machine.run(`docker run -d --name ${name} ${options} pause:1`);
  }

  /** `docker rm -f`: ends containers without grace. */
  async remove(...names: string[]): Promise<void> {
    await this.node.sh(`docker rm -f ${names.join(' ')}`);
  }

  /** Name of a container's network namespace, as `ip -n` takes it: below /run/netns, where Docker's are not. */
  async netns(name: string): Promise<string> {
    const path = await this.node.sh(`docker inspect -f '{{.NetworkSettings.SandboxKey}}' ${name}`);
    return path.replace(/^.*\//, '../docker/netns/');
  }

  /** The command line that runs a program in a namespace: `ip netns exec` takes only names without a slash. */
  inside(netns: string, command: string): string {
    return `nsenter --net=/run/netns/${netns} ${command}`;
  }

  /** Packets that came back of three pings. */
  async ping(from: string, to: string): Promise<number> {
    const { stdout } = await this.node.machine.run(this.inside(from, `ping -n -c 3 -i 0.01 -W 2 ${to}`));
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  async pid(name: string): Promise<number> {
    const pid = Number(await this.node.sh(`docker inspect -f '{{.State.Pid}}' ${name}`));
    if (!(pid > 1)) throw new Error(`container ${name} does not run`);
    return pid;
  }

  async inNetwork(name: string, network: string): Promise<Inspected> {
    const text = await this.node.sh(
      `docker inspect -f '{{json .NetworkSettings.Networks.${network}}}' ${name}`,
    );
    return JSON.parse(text) as Inspected;
  }

  /** The ends of the daemons' logs. */
  logs(): Promise<string> {
    return this.node.sh('tail -n 30 /run/driver.log /run/dockerd.log | cut -c -600');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.node[Symbol.asyncDispose]();
  }
}
