import { expect } from 'vitest';
import { pfPci, type TestNode, vfPci } from './node.ts';
import { type Random, sample } from './random.ts';

/** How pods get their VF: from a pool of two cards, or by a device plugin that allots the VFs of two others. */
type Mode = 'pool' | 'deviceID';

interface Pod {
  readonly name: string;
  readonly mode: Mode;
  /** Grows with every attachment: each has a container of its own, as pods have. */
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
  readonly namespaceFirst: number;
  readonly repeated: number;
  readonly looks: number;
}

const poolCards = [0, 1];
const plannedCards = [2, 3];
const vfsPerCard = 7;

/**
 * Pods attach and detach at random. A second pair of eyes looks at the namespaces meanwhile: a pod that is attached and at rest must have
 * its VF, whatever happens around it.
 */
export async function storm(
  node: TestNode,
  random: Random,
  { podCount, operations, atOnce }: { podCount: number; operations: number; atOnce: number },
): Promise<StormFigures> {
  const pods = Array.from({ length: podCount }, (_, i): Pod => {
    const mode = i % 2 === 0 ? 'pool' : 'deviceID';
    return { name: `pod${i}`, mode, generation: 0, isBusy: false, vf: undefined, past: [], config: {} };
  });
  /** What a device plugin believes to be free. */
  const allocatable = plannedCards.flatMap((card) =>
    Array.from({ length: vfsPerCard }, (_, index) => vfPci(card, index)),
  );
  const figures = { added: 0, refused: 0, deleted: 0, namespaceFirst: 0, repeated: 0, looks: 0 };

  const containerId = (pod: Pod) => `${pod.name}-${pod.generation}`;

  async function attach(pod: Pod): Promise<void> {
    const deviceID =
      pod.mode === 'deviceID' ? allocatable.splice(random.below(allocatable.length), 1)[0] : undefined;
    if (pod.mode === 'deviceID' && deviceID === undefined) return;
    pod.generation++;
    const vlan = 1 + random.below(4000);
    pod.config = {
      ...(deviceID === undefined ? { pf: poolCards.map(pfPci) } : { deviceID }),
      vlan,
      trust: 'on',
      ...(random.chance(0.3) && { mac: `02:00:00:${hex(pod.generation)}:${hex(pods.indexOf(pod))}:01` }),
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]] },
    };
    const { code, answer } = await node.cni('ADD', pod.name, pod.config, { containerId: containerId(pod) });
    if (code === 0) {
      const vf = answer?.interfaces?.[0]?.pciID;
      if (vf === undefined) throw new Error(`no VF in the result of ${containerId(pod)}`);
      const other = pods.find((one) => one !== pod && one.vf === vf && !one.isBusy);
      if (other) throw new Error(`VF ${vf} was given to ${pod.name}, but ${other.name} has it`);
      pod.vf = vf;
      figures.added++;
      return;
    }
    // Only a pool can be exhausted.
    expect(answer, containerId(pod)).toMatchObject({ code: 11 });
    expect(pod.mode, answer?.msg).toBe('pool');
    figures.refused++;
    await node.del(pod.name, pod.config, { containerId: containerId(pod) });
  }

  async function detach(pod: Pod): Promise<void> {
    const attachment = { containerId: containerId(pod) };
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
    if (pod.mode === 'deviceID') allocatable.push(vf);
    if (isGone) await node.pods(pod.name);
    figures.deleted++;
  }

  /** A runtime repeats a DEL that says "try again later". */
  async function delUntilDone(pod: Pod, config: object, attachment: object): Promise<void> {
    for (let tries = 0; ; tries++) {
      const { code, answer, stderr } = await node.cni('DEL', pod.name, config, attachment);
      if (code === 0) return;
      if (answer?.code !== 11 || tries === 5) throw new Error(`DEL: ${JSON.stringify(answer)}\n${stderr}`);
    }
  }

  async function repeatDel(pod: Pod): Promise<void> {
    const { containerId, config } = random.pick(pod.past);
    await delUntilDone(pod, config, { containerId });
    figures.repeated++;
  }

  let left = operations;
  async function worker(): Promise<void> {
    while (left > 0) {
      const idle = pods.filter((pod) => !pod.isBusy);
      const pod = random.pick(idle);
      left--;
      pod.isBusy = true;
      try {
        if (pod.past.length > 0 && random.chance(0.15)) await repeatDel(pod);
        else if (pod.vf === undefined) await attach(pod);
        else await detach(pod);
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
      const before = atRest.map(({ name, generation, vf }) => ({ name, generation, vf }));
      const seen = await whoHasWhich(node, atRest.map(({ name }) => name)); // prettier-ignore
      for (const { name, generation, vf } of before) {
        const pod = pods.find((one) => one.name === name);
        if (pod?.isBusy !== false || pod.generation !== generation || pod.vf !== vf) continue;
        expect(seen.get(vf ?? ''), `who has ${vf}`).toContain(name);
        figures.looks++;
      }
      if (before.length === 0) await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  await Promise.all([...Array.from({ length: atOnce }, worker), observe()]);
  for (const pod of pods) if (pod.vf !== undefined) await detach(pod);
  await node.sh(pods.map(({ name }) => `ip netns del ${name}`).join('\n'));
  return figures;
}

/** Which namespaces hold which VF, by the PCI address that `ip -d` shows. */
async function whoHasWhich(node: TestNode, names: readonly string[]): Promise<Map<string, string[]>> {
  const lines = await node.sh(`for pod in ${names.join(' ')}; do
      { ip -n $pod -d link show 2> /dev/null || true; } | sed -n "s/.* parentdev \\([0-9a-f:.]*\\).*/\\1 $pod/p"
    done`);
  const found = new Map<string, string[]>();
  for (const line of lines.split('\n').filter(Boolean)) {
    const [vf = '', pod = ''] = line.split(' ');
    found.set(vf, [...(found.get(vf) ?? []), pod]);
  }
  return found;
}

function hex(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0');
}
