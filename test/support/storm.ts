import { type CniAnswer, pfPci, type TestNode, vfPci } from './node.ts';
import { type Random, sample } from './random.ts';

/** How pods get their VF: from a pool of two cards, or by a device plugin that allots the VFs of two others. */
type Mode = 'pool' | 'deviceID';

interface Pod {
  readonly name: string;
  readonly mode: Mode;
  readonly isDpdk: boolean;
  /** Grows with every attachment: each has a container of its own, as pods have. A runtime that tries again keeps it. */
  generation: number;
  isBusy: boolean;
  /** PCI address of the VF it has, as the ADD's result told. */
  vf: string | undefined;
  /** Containers that had a VF before: a runtime may send DEL for them again, at any time. */
  readonly past: { containerId: string; config: object }[];
  config: object;
}

export interface StormFigures {
  readonly added: number;
  readonly refused: number;
  readonly deleted: number;
  /** Namespaces that went before their DEL, and while their ADD was running. */
  readonly namespaceFirst: number;
  readonly vanished: number;
  /** DEL of a container that ended long ago, ADD of one that has its VF already. */
  readonly repeatedDel: number;
  readonly repeatedAdd: number;
  readonly looks: number;
}

const poolCards = [0, 1];
const plannedCards = [2, 3];
const cardCount = poolCards.length + plannedCards.length;
const vfsPerCard = 7;

/** An IPAM plugin that takes a lease and then says no, and one time in three does not want to give one back. */
const moody = `#!/bin/bash
cat > /dev/null
lease=/var/lib/cni/moody/$CNI_CONTAINERID
no() { echo '{"cniVersion": "1.0.0", "code": 150, "msg": "not today"}'; exit 1; }
case $CNI_COMMAND in
ADD)
  mkdir -p /var/lib/cni/moody && echo "$CNI_IFNAME" > "$lease" || no
  (( RANDOM % 3 )) || no
  echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/16"}]}' ;;
DEL)
  (( RANDOM % 3 )) || no
  rm -f "$lease" ;;
esac
`;

/** What goes on around the plugin until /run/storm.over is there. */
const surroundings = {
  // The disk of leases and claims is full for a moment, again and again.
  disk: `sleep 10; dd if=/dev/zero of=/var/lib/cni/filler bs=4k 2> /dev/null; sleep 0.5; rm -f /var/lib/cni/filler`,
  // As udev does: whatever appears under the kernel's name gets its own.
  renamer: `for vf in /sys/bus/pci/devices/*/physfn; do
      vf=\${vf%/physfn}; name=$(ls $vf/net 2> /dev/null)
      [[ $name == eth* ]] && ip link set "$name" name "$(cat /run/names/\${vf##*/})"
    done; sleep 0.3`,
};

/** Gives every VF a name that the kernel would not take, and a small disk to the state. Before anything is compared. */
export async function prepareStorm(node: TestNode): Promise<void> {
  await node.machine.write('/opt/cni/bin/moody', moody, 0o755);
  await node.sh(
    'mount -t tmpfs -o size=4m,mode=755 tmpfs /var/lib/cni; mkdir -p /run/names; modprobe vfio-pci',
  );
  for (let card = 0; card < cardCount; card++) {
    for (let index = 0; index < vfsPerCard; index++) {
      const pci = vfPci(card, index);
      const name = `c${card}v${index}`;
      await node.sh(
        `ip link set $(ls /sys/bus/pci/devices/${pci}/net) name ${name}; echo ${name} > /run/names/${pci}`,
      );
    }
  }
}

/**
 * Pods attach and detach at random, while the disk fills, IPAM plugins refuse, pods abuse their interface and namespaces vanish. A second
 * pair of eyes looks at the namespaces meanwhile: a pod that is attached and at rest must have its VF, whatever happens around it.
 */
export async function storm(
  node: TestNode,
  random: Random,
  { podCount, operations, atOnce }: { podCount: number; operations: number; atOnce: number },
): Promise<StormFigures> {
  const pods = Array.from({ length: podCount }, (_, i): Pod => ({
    name: `pod${i}`,
    mode: i % 2 === 0 ? 'pool' : 'deviceID',
    isDpdk: i % 8 < 2,
    generation: 0,
    isBusy: false,
    vf: undefined,
    past: [],
    config: {},
  }));
  /** What a device plugin believes to be free. */
  const allocatable = plannedCards.flatMap((card) =>
    Array.from({ length: vfsPerCard }, (_, index) => vfPci(card, index)),
  );
  const figures = {
    added: 0,
    refused: 0,
    deleted: 0,
    namespaceFirst: 0,
    vanished: 0,
    repeatedDel: 0,
    repeatedAdd: 0,
    looks: 0,
  };

  const containerId = (pod: Pod) => `${pod.name}-${pod.generation}`;

  async function attach(pod: Pod): Promise<void> {
    const deviceID =
      pod.mode === 'deviceID' ? allocatable.splice(random.below(allocatable.length), 1)[0] : undefined;
    if (pod.mode === 'deviceID' && deviceID === undefined) return;
    // A runtime that tries again after a failure does so with the same container.
    if (pod.generation === 0 || random.chance(0.7)) pod.generation++;
    const vlan = 1 + random.below(4000);
    pod.config = {
      ...(deviceID === undefined ? { pf: poolCards.map(pfPci) } : { deviceID }),
      vlan,
      trust: 'on',
      ...(pod.isDpdk && { dpdk: true }),
      ...(random.chance(0.3) && { mac: `02:00:00:${hex(pod.generation)}:${hex(pods.indexOf(pod))}:01` }),
      ipam: random.chance(0.2)
        ? { type: 'moody' }
        : { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]] },
    };
    const vanishes = random.chance(0.1);
    const adding = node.cni('ADD', pod.name, pod.config, { containerId: containerId(pod) });
    if (vanishes) {
      await node.sh(`sleep ${random.below(20) / 10}; ip netns del ${pod.name}`);
      figures.vanished++;
    }
    const { code, answer, stderr } = await adding;
    if (code === 0) {
      const vf = answer?.interfaces?.[0]?.pciID;
      if (vf === undefined) throw new Error(`no VF in the result of ${containerId(pod)}`);
      const other = pods.find((one) => one !== pod && one.vf === vf && !one.isBusy);
      if (other) throw new Error(`VF ${vf} was given to ${pod.name}, but \${other.name} has it`);
      pod.vf = vf;
      figures.added++;
      if (!vanishes) return;
    } else {
      refuseUnfitting(pod, answer, vanishes, stderr);
      figures.refused++;
    }
    if (vanishes || code !== 0) {
      await delUntilDone(pod, pod.config, { containerId: containerId(pod) });
      if (pod.vf !== undefined) figures.deleted++;
      pod.vf = undefined;
      if (deviceID !== undefined) allocatable.push(deviceID);
      if (vanishes) await node.pods(pod.name);
    }
  }

  /** A pool that is exhausted, a VF that somebody works on, a disk that is full, an IPAM plugin's refusal; or a namespace that is gone. */
  function refuseUnfitting(pod: Pod, answer: CniAnswer | undefined, vanishes: boolean, stderr: string): void {
    const fitting = [5, 11, 102, 150, ...(vanishes ? [3, 8, 101] : [])];
    if (answer?.code === undefined || !fitting.includes(answer.code))
      throw new Error(`ADD of ${containerId(pod)}: ${JSON.stringify(answer)}\n${stderr}`);
  }

  /** What a pod with CAP_NET_ADMIN may do to its interface, some of it only to annoy. */
  async function abuse(pod: Pod): Promise<void> {
    const link = `ip -n ${pod.name} link`;
    const [command] = sample(
      [
        `${link} property add dev net1 altname eth0`, // the PF's own name
        `${link} property add dev net1 altname c0v0`,
        `${link} set net1 alias evil`,
        `${link} set net1 down; ${link} set net1 name mine`,
        `${link} set net1 mtu 1280`,
        `${link} add link net1 name net1.5 type vlan id 5`,
      ],
      1,
      random,
    );
    await node.machine.run(command ?? '');
  }

  async function detach(pod: Pod): Promise<void> {
    const attachment = { containerId: containerId(pod) };
    if (!pod.isDpdk && random.chance(0.4)) await abuse(pod);
    const isGone = random.chance(0.3);
    if (isGone) {
      await node.sh(`ip netns del ${pod.name}`);
      figures.namespaceFirst++;
    }
    const netns = isGone && random.chance(0.5) ? { netns: '' } : {};
    const config = random.chance(0.3) ? {} : pod.config;
    await delUntilDone(pod, config, { ...attachment, ...netns });
    const vf = pod.vf ?? '';
    pod.vf = undefined;
    pod.past.push({ containerId: containerId(pod), config: pod.config });
    // The next one is another container: this one has ended.
    pod.generation++;
    if (pod.mode === 'deviceID') allocatable.push(vf);
    if (isGone) await node.pods(pod.name);
    figures.deleted++;
  }

  /** A runtime repeats a DEL that fails. The disk is full for a second, and the IPAM plugin refuses one time in three. */
  async function delUntilDone(pod: Pod, config: object, attachment: object): Promise<void> {
    for (let tries = 0; ; tries++) {
      const { code, answer, stderr } = await node.cni('DEL', pod.name, config, attachment);
      if (code === 0) return;
      if (![5, 11, 102, 150].includes(answer?.code ?? 0) || tries === 20)
        throw new Error(`DEL of ${pod.name}: ${JSON.stringify(answer)}\n${stderr}`);
      await node.sh('sleep 0.3');
    }
  }

  async function repeatDel(pod: Pod): Promise<void> {
    const { containerId, config } = random.pick(pod.past);
    await delUntilDone(pod, config, { containerId });
    figures.repeatedDel++;
  }

  /** The attachment is there: a second one of the same name would lose a VF. */
  async function repeatAdd(pod: Pod): Promise<void> {
    const { code, answer } = await node.cni('ADD', pod.name, pod.config, { containerId: containerId(pod) });
    if (code === 0)
      throw new Error(`${containerId(pod)} has ${pod.vf} and got another: ${JSON.stringify(answer)}`);
    figures.repeatedAdd++;
  }

  let left = operations;
  async function worker(): Promise<void> {
    while (left > 0) {
      const idle = pods.filter((pod) => !pod.isBusy);
      const pod = random.pick(idle);
      left--;
      pod.isBusy = true;
      try {
        if (pod.past.length > 0 && random.chance(0.12)) await repeatDel(pod);
        else if (pod.vf === undefined) await attach(pod);
        else if (random.chance(0.15)) await repeatAdd(pod);
        else await detach(pod);
      } catch (error) {
        left = 0; // the others end, too
        throw error;
      } finally {
        pod.isBusy = false;
      }
    }
  }

  async function observe(): Promise<void> {
    while (left > 0) {
      // A few of those at rest: each look costs a process in an emulated machine that has sixteen others to run.
      const atRest = sample(
        pods.filter((pod) => pod.vf !== undefined && !pod.isBusy),
        5,
        random,
      );
      const before = atRest.map(({ name, generation, vf, isDpdk }) => ({ name, generation, vf, isDpdk }));
      const seen = await whoHasWhich(node, before);
      for (const { name, generation, vf } of before) {
        const pod = pods.find((one) => one.name === name);
        if (pod?.isBusy !== false || pod.generation !== generation || pod.vf !== vf) continue;
        if (!seen.has(`${vf} ${name}`))
          throw new Error(`${name} has lost its VF ${vf}; seen: ${[...seen].join(', ')}`);
        figures.looks++;
      }
      if (before.length === 0) await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  const around = Object.values(surroundings).map((script) =>
    node.machine.run(`until [ -e /run/storm.over ]; do ${script}; done`, { timeoutMs: 0 }),
  );
  const outcomes = await Promise.allSettled([...Array.from({ length: atOnce }, worker), observe()]);
  await node.sh('touch /run/storm.over');
  await Promise.all(around);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
  for (const pod of pods) if (pod.vf !== undefined) await detach(pod);
  await node.sh(pods.map(({ name }) => `ip netns del ${name}`).join('\n'));
  // Addresses that the moody plugin may have given, and did not want back: it says yes two times in three.
  await node.sh('for tries in {1..20}; do sriov gc > /dev/null && break; done');
  return figures;
}

/** "VF POD" for each that is where it should be: in the namespace, by the PCI address that `ip -d` shows, or on vfio-pci. */
export async function whoHasWhich(
  node: TestNode,
  pods: readonly { name: string; vf: string | undefined; isDpdk: boolean }[],
): Promise<Set<string>> {
  const looks = pods.map(({ name, vf, isDpdk }) =>
    isDpdk
      ? `[[ $(readlink /sys/bus/pci/devices/${vf}/driver) == */vfio-pci ]] && echo ${vf} ${name}`
      : `{ ip -n ${name} -d link show 2> /dev/null || true; } | sed -n "s|.* parentdev \\([0-9a-f:.]*\\).*|\\1 ${name}|p"`,
  );
  const { stdout } = await node.machine.run(looks.join('\n'));
  return new Set(stdout.split('\n').filter(Boolean));
}

function hex(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0');
}
