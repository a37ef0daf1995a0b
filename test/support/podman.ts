import { makePauseImage } from './containerd.ts';
import { pfPci, TestNode } from './node.ts';

const config = `
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
`;

/** What `podman inspect` says of a container in a network. */
export interface Inspected {
  readonly IPAddress: string;
  readonly GlobalIPv6Address: string;
  readonly Gateway: string;
  readonly MacAddress: string;
}

/** A node with podman, netavark, our plugin where both look for one, and VFs on one card. */
export class PodmanNode implements AsyncDisposable {
  readonly node: TestNode;

  private constructor(node: TestNode) {
    this.node = node;
  }

  static async start(release: 'trixie' | 'sid', vfs: number): Promise<PodmanNode> {
    return PodmanNode.on(await TestNode.start({ pfs: 1, vfs, disks: [`podman-${release}`] }));
  }

  /** A node that is there, with podman's disk. */
  static async on(node: TestNode): Promise<PodmanNode> {
    await makePauseImage(node);
    await node.machine.write('/etc/containers/containers.conf', config);
    await node.machine.write(
      '/etc/containers/policy.json',
      '{"default":[{"type":"insecureAcceptAnything"}]}',
    );
    await node.sh(`
      mkdir -p /usr/libexec/netavark; ln -s /opt/cni/bin/sriov /usr/libexec/netavark/sriov
      mkdir -p /var/lib/containers; mount -t tmpfs tmpfs /var/lib/containers; touch /etc/resolv.conf
      podman load -q -i /run/pause.tar`);
    return new PodmanNode(node);
  }

  /** Makes a network on the card. */
  async network(name: string, options: string): Promise<void> {
    await this.node.sh(`podman network create --driver sriov --opt pf=${pfPci(0)} ${options} ${name}`);
  }

  /** Starts a container that sleeps; returns what it printed on stderr. */
  async run(name: string, options: string): Promise<string> {
    const { code, stderr } = await this.tryRun(name, options);
    if (code !== 0) throw new Error(`podman run failed: ${stderr}`);
    return stderr;
  }

  tryRun(name: string, options: string) {
    return this.node.machine.run(`podman run -d --name ${name} ${options} localhost/pause:1`);
  }

  /** Name of a container's network namespace, as `ip -n` takes it. */
  async netns(name: string): Promise<string> {
    const path = await this.node.sh(`podman inspect -f '{{.NetworkSettings.SandboxKey}}' ${name}`);
    return path.replace(/^.*\//, '');
  }

  async inNetwork(name: string, network: string): Promise<Inspected> {
    const text = await this.node.sh(
      `podman inspect -f '{{json .NetworkSettings.Networks.${network}}}' ${name}`,
    );
    return JSON.parse(text) as Inspected;
  }

  /** `podman rm -f`: ends containers without grace. */
  async remove(...names: string[]): Promise<void> {
    await this.node.sh(`podman rm -f -t 0 ${names.join(' ')}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.node[Symbol.asyncDispose]();
  }
}
