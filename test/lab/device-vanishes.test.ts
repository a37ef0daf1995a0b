import { afterAll, beforeAll, expect, test } from 'vitest';
import { changingPoints, type KillPoint } from '../support/crash.ts';
import { type CniOutcome, difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';
import { isSoak, sample, seed, seeded } from '../support/random.ts';
import { atStandstill } from '../support/standstill.ts';

/**
 * Somebody else takes the VF's driver, or the VF itself, away while a call is at work on it: an operator, a driver that is updated, a card
 * that resets itself. The call is stopped after one of its system calls, and goes on when it is done.
 */

const config = {
  deviceID: vfPci(0, 0),
  vlan: 100,
  mac: '02:00:00:00:a0:01',
  trust: 'on',
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24'),
};
const driver = '/sys/bus/pci/drivers/igbvf';
const count = `/sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs`;

/** What is done to the VF while the call stands still, and what undoes as much of it as the call does not. */
const disturbances: Readonly<Record<string, { readonly take: string; readonly give: string }>> = {
  'its driver is taken away': {
    take: `echo ${config.deviceID} > ${driver}/unbind || true`,
    give: `[ -e ${driver}/${config.deviceID} ] || echo ${config.deviceID} > ${driver}/bind`,
  },
  'its driver is taken away for a moment, so that it has another netdev': {
    take: `echo ${config.deviceID} > ${driver}/unbind && echo ${config.deviceID} > ${driver}/bind || true`,
    give: '',
  },
  'it is taken away': { take: `echo 0 > ${count}`, give: `echo 1 > ${count}` },
};

let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 1 });
  await node.pods('pod');
  await node.add('pod', config);
  await node.del('pod', config);
  pristine = await stateOfNode();
});
afterAll(() => node[Symbol.asyncDispose]());

/** A VF that is made anew gets another MAC from its PF; the pod's would still be seen. */
async function stateOfNode(): Promise<unknown> {
  const { address } = await node.vf(0, 0);
  const text = JSON.stringify(await node.state());
  return JSON.parse(address === config.mac ? text : text.replaceAll(address, 'its own MAC')) as unknown;
}

/** Makes a call that stands still after one of its system calls while a script runs. */
function disturbed(command: string, point: KillPoint, script: string): Promise<CniOutcome> {
  return atStandstill(node, point, script, (stop) => node.cni(command, 'pod', config, undefined, stop));
}

test.each(
  Object.entries(disturbances).flatMap(([what, how]) =>
    ['ADD', 'DEL'].map((command) => ({ command, what, how })),
  ),
)(
  '$command: $what; the DEL after it leaves nothing',
  { timeout: 7_200_000 },
  async ({ command, what, how: { take, give } }) => {
    const call = (wrapper: string) => node.cni(command, 'pod', config, undefined, wrapper);
    if (command === 'DEL') await node.add('pod', config);
    const points = await changingPoints(node, (node, pod, wrapper) => call(wrapper ?? ''));
    if (command === 'ADD') await node.del('pod', config);
    const chosen = isSoak ? points : sample(points, 1, seeded(seed));
    const failures: string[] = [];
    for (const point of chosen) {
      if (command === 'DEL') await node.add('pod', config);
      const { code, answer, stderr } = await disturbed(command, point, take);
      const wrong: string[] = [];
      if (code !== 0 && code !== 1) wrong.push(`exit code ${code}`);
      if (answer?.code === 999 || /\n\s+at .*:\d+:\d+/.test(stderr)) wrong.push('a bug');
      if (code === 1 && !answer) wrong.push('no answer');
      const later = await node.cni('DEL', 'pod', config);
      if (later.code !== 0) wrong.push(`the DEL after it fails: ${JSON.stringify(later.answer)}`);
      await node.sh(give || 'true');
      wrong.push(difference(pristine, await stateOfNode()));
      const told = wrong.filter(Boolean).join('\n');
      if (told === '') continue;
      failures.push(`${point.call} ${point.n}: ${told}\n${JSON.stringify(answer)}\n${stderr}`);
      console.log(failures.at(-1));
      await node.machine.run(`sriov release ${config.deviceID} --force; ${give}`);
    }
    console.log(
      `${command}, ${what}: ${chosen.length - failures.length} of ${chosen.length} survived (of ${points.length})`,
    );
    expect(failures).toEqual([]);
  },
);

test('a driver that binds late: ADD and DEL wait for the netdev', async () => {
  // What is written to "bind" reaches the driver two seconds later.
  await node.machine.write(
    '/run/late.sh',
    `
    : > /run/late; mount --bind /run/late ${driver}/bind
    while [ ! -e /run/late.over ]; do
      [ -s /run/late ] && { pci=$(cat /run/late); : > /run/late; sleep 2; umount ${driver}/bind
        echo $pci > ${driver}/bind; mount --bind /run/late ${driver}/bind; echo bound >> /run/late.bound; }
      sleep 0.05
    done
    umount ${driver}/bind`,
    0o755,
  );
  const late = node.sh('bash /run/late.sh');
  await node.add('pod', config);
  expect(await node.link('net1', 'pod')).toMatchObject({ address: config.mac });
  await node.del('pod', config);
  await node.sh('touch /run/late.over');
  await late;
  expect(Number(await node.sh('grep -c bound /run/late.bound'))).toBeGreaterThan(0);
  expect(difference(pristine, await stateOfNode())).toBe('');
});
