import { type KernelName, labKernel } from '../../lab/kernels.ts';
import { startLab, type LabOptions } from '../../lab/lab.ts';
import type { Machine, RunResult } from '../../lab/machine.ts';

/** PCI addresses in the lab: card N is in slot N+1, and the 82576 has its VFs at every second function from device 16 on. */
export function pfPci(card: number): string {
  return `0000:0${card + 1}:00.0`;
}
export function vfPci(card: number, index: number): string {
  return `0000:0${card + 1}:1${index >> 2}.${(index & 3) * 2}`;
}

/** What a CNI call ended with. */
export interface CniOutcome {
  readonly code: number;
  /** The JSON document on stdout; undefined if there was none. */
  readonly answer: CniAnswer | undefined;
  readonly stderr: string;
}

export interface CniAnswer {
  readonly cniVersion: string;
  readonly code?: number;
  readonly msg?: string;
  readonly details?: string;
  readonly interfaces?: { name: string; mac: string; mtu: number; sandbox: string; pciID: string }[];
  readonly ips?: { address: string; gateway?: string; interface?: number }[];
  readonly routes?: { dst: string; gw?: string }[];
}

export interface Attachment {
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: string;
  readonly env?: Record<string, string>;
}

export interface CallOptions {
  readonly attachment?: Attachment;
  /** A program with its arguments that runs the plugin. */
  readonly wrapper?: string;
  readonly timeoutMs?: number;
}

/** One link as `ip -j -d link` shows it: the outside eye. */
export interface ShownLink {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address: string;
  readonly mtu: number;
  readonly flags: string[];
  readonly operstate: string;
  readonly promiscuity: number;
  readonly altnames?: string[];
  readonly ifalias?: string;
  readonly parentdev?: string;
  readonly vfinfo_list?: ShownVf[];
}

export interface ShownVf {
  readonly vf: number;
  readonly address: string;
  readonly vlan_list: { vlan: number; qos?: number; protocol?: string }[];
  readonly rate: { max_tx: number; min_tx: number };
  readonly spoofchk: boolean;
  readonly trust: boolean;
  readonly link_state: string;
}

/** See {@link TestNode.state}. */
export interface NodeState {
  readonly links: readonly { readonly ifname: string; readonly parentdev: string | undefined }[];
  /** Drivers and files, one a line. */
  readonly rest: string;
}

export const hostLocal = (subnet: string, extra: object = {}) => ({
  type: 'host-local',
  ranges: [[{ subnet }]],
  ...extra,
});

/** The lines in which two states differ; "" if they are equal. */
export function difference(before: unknown, after: unknown): string {
  const lines = (state: unknown) => JSON.stringify(state, undefined, 1).replaceAll('\\n', '\n').split('\n');
  const [old, now] = [lines(before), lines(after)];
  const gone = old.filter((line) => !now.includes(line)).map((line) => `-${line}`);
  return [...gone, ...now.filter((line) => !old.includes(line)).map((line) => `+${line}`)].join('\n');
}

/** Drivers and files of a node. A program's start takes an emulated processor longer than all that bash does here by itself. */
const restOfState = `
  shopt -s globstar nullglob dotglob
  printf '%s\\n' /sys/bus/pci/drivers/*/0000:*
  for file in /sys/bus/pci/devices/*/driver_override /sys/bus/pci/devices/*/infiniband_*/*/ibdev; do
    { read -r text < $file && echo $file:$text; } 2> /dev/null || true # it may go meanwhile
  done
  for device in /sys/bus/pci/devices/*/infiniband/*; do echo $device; done
  for file in /var/lib/cni/** /run/k8s.cni.cncf.io/**; do
    [[ ! -f $file || $file == *.lock || $file == */last_reserved_ip.* || $file == */lock ]] || echo $file
  done`;

/** A node of the lab with VFs on its cards, the plugin at /opt/cni/bin/sriov and Debian's plugins beside it. */
export class TestNode implements AsyncDisposable {
  readonly machine: Machine;
  readonly #kernel: KernelName;

  private constructor(machine: Machine, kernel: KernelName) {
    this.machine = machine;
    this.#kernel = kernel;
  }

  /** Starts the machine and creates VFs on every card. */
  static async start(options: LabOptions & { vfs?: number } = {}): Promise<TestNode> {
    const { vfs = 7, pfs = 2, kernel = labKernel } = options;
    const node = new TestNode(await startLab(options), kernel);
    for (let card = 0; card < pfs; card++) {
      await node.sh(`
        ip link set $(ls /sys/bus/pci/devices/${pfPci(card)}/net) up
        echo ${vfs} > /sys/bus/pci/devices/${pfPci(card)}/sriov_numvfs`);
      if (kernel === '5.10' || kernel === '6.1') await node.#startVfs(card);
    }
    return node;
  }

  /**
   * The igbvf of Linux 5.10 and 6.1 does not reach its PF while it is loaded: the PF learns the VF's MAC when the VF has been up for a
   * while.
   */
  async #startVfs(card: number): Promise<void> {
    await this.sh(`
      pf=$(ls /sys/bus/pci/devices/${pfPci(card)}/net)
      vfs=$(cd /sys/bus/pci/devices/${pfPci(card)}; ls virtfn*/net | grep -v :)
      for vf in $vfs; do ip link set $vf up; done
      for i in {1..100}; do
        ip link show $pf | grep -qE '^ +vf [0-9]+ +link/ether 00:00:00:00:00:00' || break
        sleep 0.1
      done
      for vf in $vfs; do ip link set $vf down; done
      (( i < 100 ))`);
  }

  /** Runs a bash script and returns its stdout; a failure is an error with its stderr. */
  sh(script: string): Promise<string> {
    return this.machine.output(`set -euo pipefail\n${script}`);
  }

  /** Starts a "sleep" that has a file open as soon as this returns; its pid. */
  hold(path: string): Promise<string> {
    return this.sh(`sleep 1000 < ${path} > /dev/null 2>&1 & pid=$!
      until [[ $(readlink /proc/$pid/fd/0) == ${path} && $(cat /proc/$pid/comm) == sleep ]]; do
        kill -0 $pid; sleep 0.02
      done
      echo $pid`);
  }

  /** Kills a process; when this returns, it has nothing open any more. */
  async kill(pid: string): Promise<void> {
    await this.sh(`kill ${pid}; while [ -e /proc/${pid} ]; do sleep 0.02; done`);
  }

  /** Makes network namespaces for pods. */
  async pods(...names: string[]): Promise<void> {
    await this.sh(names.map((name) => `ip netns add ${name}; ip -n ${name} link set lo up`).join('\n'));
  }

  /**
   * Calls the plugin as a runtime does. `pod` names the namespace and the container.
   * @param wrapper a program with its arguments that runs the plugin
   */
  async cni(
    command: string,
    pod: string,
    config: object,
    attachment: Attachment = {},
    wrapper = '',
  ): Promise<CniOutcome> {
    const { code, stdout, stderr } = await this.call(command, pod, config, { attachment, wrapper });
    return { code, stderr, answer: stdout === '' ? undefined : (JSON.parse(stdout) as CniAnswer) };
  }

  /** As {@link cni}, but stdout as it came, whatever it is. */
  async call(command: string, pod: string, config: object, options: CallOptions = {}): Promise<RunResult> {
    const { attachment = {}, wrapper = '', timeoutMs } = options;
    const {
      containerId = pod,
      netns = `/run/netns/${pod}`,
      ifname = 'net1',
      args = '',
      env = {},
    } = attachment;
    const variables = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns,
      CNI_IFNAME: ifname,
      CNI_ARGS: args,
      CNI_PATH: '/opt/cni/bin',
      ...env,
    };
    const stdin = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'sriov', ...config });
    const limit = timeoutMs === undefined ? {} : { timeoutMs };
    return this.machine.run(`exec ${wrapper} /opt/cni/bin/sriov`, { env: variables, stdin, ...limit });
  }

  /** An ADD that must succeed; returns its result. */
  async add(pod: string, config: object, attachment?: Attachment): Promise<CniAnswer> {
    const { code, answer, stderr } = await this.cni('ADD', pod, config, attachment);
    if (code !== 0 || !answer) throw new Error(`ADD failed: ${JSON.stringify(answer)}\n${stderr}`);
    return answer;
  }

  /** A DEL that must succeed. */
  async del(pod: string, config: object, attachment?: Attachment): Promise<void> {
    const { code, answer, stderr } = await this.cni('DEL', pod, config, attachment);
    if (code !== 0 || answer) throw new Error(`DEL failed: ${JSON.stringify(answer)}\n${stderr}`);
  }

  async links(netns?: string): Promise<ShownLink[]> {
    const links = JSON.parse(
      await this.sh(`ip ${netns ? `-n ${netns}` : ''} -j -d link show`),
    ) as ShownLink[];
    if (this.#kernel !== '5.10') return links;
    // Before Linux 5.14 only ethtool tells the device behind a link.
    const script = links.map(
      ({ ifname }) => `ethtool -i ${ifname} 2>/dev/null | sed -n 's/^bus-info: /${ifname} /p'`,
    );
    const inside = netns ? `ip netns exec ${netns} bash` : 'bash';
    const { stdout } = await this.machine.run(inside, { stdin: script.join('\n') });
    const parents = new Map(stdout.split('\n').map((line) => line.split(' ') as [string, string]));
    return links.map((link) => {
      const parentdev = parents.get(link.ifname);
      return parentdev ? { ...link, parentdev } : link;
    });
  }

  async link(ifname: string, netns?: string): Promise<ShownLink> {
    const found = (await this.links(netns)).find((link) => link.ifname === ifname);
    if (!found) throw new Error(`no link ${ifname} in ${netns ?? 'the host'}`);
    return found;
  }

  /** Addresses of a link, as `ip -j addr` shows them. */
  async addresses(
    ifname: string,
    netns: string,
  ): Promise<{ local: string; prefixlen: number; scope: string }[]> {
    const [link] = JSON.parse(await this.sh(`ip -n ${netns} -j addr show ${ifname}`)) as {
      addr_info: { local: string; prefixlen: number; scope: string }[];
    }[];
    return link?.addr_info ?? [];
  }

  /** What the PF has programmed for a VF. */
  async vf(card: number, index: number): Promise<ShownVf> {
    const pf = (await this.links()).find((link) => link.parentdev === pfPci(card));
    const found = pf?.vfinfo_list?.find(({ vf }) => vf === index);
    if (!found) throw new Error(`no VF ${index} on card ${card}`);
    return found;
  }

  /** Packets that came back of so many pings. */
  async ping(from: string, to: string, count = 3): Promise<number> {
    const { stdout } = await this.machine.run(`ip netns exec ${from} ping -n -c ${count} -i 0.01 -W 2 ${to}`);
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0);
  }

  /**
   * Everything that an attachment may change on the node: the host's links with all VF settings, drivers, our state, IPAM leases. Two of
   * them are equal if nothing was left behind.
   */
  async state(): Promise<NodeState> {
    const [shown, rest] = await Promise.all([this.links(), this.sh(restOfState)]);
    const links = shown.map(
      ({ ifname, address, mtu, flags, promiscuity, altnames, ifalias, parentdev, vfinfo_list }) => ({
        ifname,
        address,
        mtu,
        isUp: flags.includes('UP'),
        flags: flags.filter((flag) => ['PROMISC', 'ALLMULTI'].includes(flag)),
        promiscuity,
        altnames: [...(altnames ?? [])].sort(),
        ifalias,
        parentdev,
        vfinfo_list,
      }),
    );
    return {
      links: links.sort((a, b) => (a.parentdev ?? a.ifname).localeCompare(b.parentdev ?? b.ifname)),
      rest,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.stop();
  }
}
