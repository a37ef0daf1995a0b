import { Cri, type PodConfig } from './cri.ts';
import type { TestNode } from './node.ts';

/** A containerd of the lab's disks, and what differs between releases. */
export interface ContainerdRelease {
  readonly release: string;
  /** The newest CNI version that it understands. */
  readonly cniVersion: string;
  /** Folder of its programs. */
  readonly programs: string;
  /** Folder of CNI plugins that know its CNI version. */
  readonly plugins: string;
  /** Its config.toml. */
  readonly config: string;
}

const pluginFolder = '/opt/tapped';

export const bookworm: ContainerdRelease = {
  release: 'bookworm',
  cniVersion: '1.0.0',
  programs: '/usr/bin',
  plugins: '/usr/lib/cni',
  config: `
    version = 2
    [plugins."io.containerd.grpc.v1.cri"]
      sandbox_image = "localhost/pause:1"
      [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "${pluginFolder}"`,
};

export const sid: ContainerdRelease = {
  release: 'sid',
  cniVersion: '1.1.0',
  programs: '/opt/containerd-sid/usr/bin',
  plugins: '/opt/containerd-sid/usr/lib/cni',
  config: `
    version = 3
    [plugins."io.containerd.cri.v1.images".pinned_images]
      sandbox = "localhost/pause:1"
    [plugins."io.containerd.cri.v1.runtime".cni]
      bin_dirs = ["${pluginFolder}"]`,
};

/** Makes /run/pause.tar in the guest: an image with a static busybox that sleeps. `ctr` and podman load it. */
export async function makePauseImage(node: TestNode): Promise<void> {
  await node.sh(`
    mkdir -p /run/pause/bin; cp /bin/busybox /run/pause/bin; cd /run
    tar cf layer.tar -C pause bin
    jq -n --arg layer "sha256:$(sha256sum layer.tar | cut -d' ' -f1)" '{architecture: "amd64", os: "linux",
      config: {Cmd: ["/bin/busybox", "sleep", "1000000"]}, rootfs: {type: "layers", diff_ids: [$layer]}}' > config.json
    jq -n '[{Config: "config.json", RepoTags: ["localhost/pause:1"], Layers: ["layer.tar"]}]' > manifest.json
    tar cf pause.tar manifest.json config.json layer.tar`);
}

/** A call of the plugin as the runtime made it. */
export interface TappedCall {
  readonly command: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: string;
  readonly config: Record<string, unknown>;
}

const tap = `#!/bin/bash
# Notes the call and runs the plugin.
stdin=$(cat)
printf '%s\\n' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$stdin" > /run/calls/$EPOCHREALTIME.$$
exec /opt/cni/bin/sriov <<< "$stdin"
`;

/** A folder of plugins with ours among them, which notes how it is called. */
export async function tapPlugins(node: TestNode, plugins: string): Promise<void> {
  await node.sh(
    `rm -rf ${pluginFolder}; mkdir -p ${pluginFolder} /run/calls; ln -s ${plugins}/* ${pluginFolder}`,
  );
  await node.machine.write(`${pluginFolder}/sriov`, tap, 0o755);
}

/** Calls since the last time this was asked, oldest first. */
export async function tappedCalls(node: TestNode): Promise<TappedCall[]> {
  const files = await node.sh(`cd /run/calls; for call in $(ls | sort); do jq -Rs . $call; rm $call; done`);
  return files
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [command, containerId, netns, ifname, args, config] = (JSON.parse(line) as string).split('\n');
      return {
        command,
        containerId,
        netns,
        ifname,
        args,
        config: JSON.parse(config || '{}') as object,
      } as TappedCall;
    });
}

/** A running containerd with our plugin as the pod network. */
export class Containerd implements AsyncDisposable {
  readonly node: TestNode;
  readonly #release: ContainerdRelease;
  #cri: Cri | undefined;

  private constructor(node: TestNode, release: ContainerdRelease) {
    this.node = node;
    this.#release = release;
  }

  /** Starts it with nothing but the pause image. */
  static async start(node: TestNode, release: ContainerdRelease): Promise<Containerd> {
    await tapPlugins(node, release.plugins);
    await node.machine.write('/etc/containerd/config.toml', release.config);
    // On a tmpfs of their own: the overlay of the guest's root cannot carry the overlays of containers.
    await node.sh(`
      mkdir -p /var/lib/containerd /etc/cni/net.d; mount -t tmpfs tmpfs /var/lib/containerd
      [ -L /var/run ] || { rm -rf /var/run; ln -s /run /var/run; } # as every Debian has it
      touch /etc/resolv.conf`);
    const containerd = new Containerd(node, release);
    await containerd.startDaemon();
    await containerd.ctr('-n k8s.io images import /run/pause.tar');
    return containerd;
  }

  async startDaemon(): Promise<void> {
    const { programs } = this.#release;
    await this.node.sh(`
      PATH=${programs}:$PATH setsid containerd >> /run/containerd.log 2>&1 & echo $! > /run/containerd.pid
      until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done`);
    this.#cri = new Cri(this.node.machine, '/run/containerd/containerd.sock');
    await this.#cri.version();
  }

  /** Ends the daemon; its pods live on. */
  async stopDaemon(): Promise<void> {
    this.#cri?.[Symbol.dispose]();
    await this.node.sh(`kill $(cat /run/containerd.pid); rm -f /run/containerd/containerd.sock
      while [ -d /proc/$(cat /run/containerd.pid) ]; do sleep 0.05; done`);
  }

  get cri(): Cri {
    if (!this.#cri) throw new Error('containerd does not run');
    return this.#cri;
  }

  ctr(command: string): Promise<string> {
    return this.node.sh(`PATH=${this.#release.programs}:$PATH ctr ${command}`);
  }

  /** Makes a chain of plugins the pod network and waits until containerd has loaded it. */
  async useNetwork(name: string, ...plugins: object[]): Promise<void> {
    const conflist = { cniVersion: this.#release.cniVersion, name, plugins };
    await this.useConflist(JSON.stringify(conflist));
  }

  async useConflist(text: string): Promise<void> {
    const { name } = JSON.parse(text) as { name: string };
    await this.node.machine.write('/run/new.conflist', text);
    await this.node.sh('mv /run/new.conflist /etc/cni/net.d/10-pods.conflist');
    const deadline = Date.now() + 10_000;
    while (!(await this.cri.networkConfig()).includes(`"${name}"`)) {
      if (Date.now() > deadline) throw new Error(`containerd does not load network ${name}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Starts a pod; returns its sandbox's id, network namespace (a name for \`ip -n\`) and address. */
  async run(name: string, config: Partial<PodConfig> = {}): Promise<Pod> {
    const id = await this.cri.runPodSandbox({ name, namespace: 'shop', uid: `uid-of-${name}`, ...config });
    const { netns, ip } = await this.cri.podSandboxStatus(id);
    return { id, netns: netns.replace(/^.*\//, ''), ip };
  }

  /** Ends a pod as the kubelet does: stops it, then removes it. */
  async end({ id }: { readonly id: string }): Promise<void> {
    await this.cri.stopPodSandbox(id);
    await this.cri.removePodSandbox(id);
  }

  /** What a reboot ends: the daemon, every container, their mounts and namespaces, all of /run. What is on disk stays. */
  async crash(): Promise<void> {
    this.#cri?.[Symbol.dispose]();
    await this.node.sh(`
      while pkill -KILL containerd || pkill -KILL -x busybox; do sleep 0.05; done # the shims, too
      for at in $(cut -d' ' -f2 /proc/mounts | grep -E '^/run/(containerd/|netns/cni-)'); do umount -l $at; done
      rm -rf /run/containerd /run/netns/cni-*`);
  }

  /** Ends every pod. */
  async endAll(): Promise<void> {
    await Promise.all((await this.cri.listPodSandboxes()).map((id) => this.cri.removePodSandbox(id)));
  }

  /** Ends the daemon and every pod, and removes what it keeps on disk. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.crash();
    await this.node.sh('umount -l /var/lib/containerd; rm -rf /etc/cni/net.d');
  }
}

export interface Pod {
  readonly id: string;
  readonly netns: string;
  readonly ip: string;
}
