import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

const ipam = hostLocal('10.1.0.0/24');
const podArgs = (name: string) => `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`;

interface Listed {
  readonly pci: string;
  readonly kind: 'pf' | 'vf';
  readonly state: string;
  readonly driver?: string;
  readonly owner?: { pod?: string; containerId: string; network: string };
  readonly since?: string;
  readonly netdev?: { ifname: string; netns?: string; mac: string };
  readonly settings?: { vlan: { id: number } };
}

describe('the tool', () => {
  let node: TestNode;

  /** Card 0: attached, attached with a VLAN, stale, vfio, used by the host, in another namespace, free. Card 1: three free VFs. */
  beforeAll(async () => {
    node = await TestNode.start({ pfs: 2, vfs: 7 });
    await node.sh(`echo 0 > /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs; mkdir -p /etc/cni/net.d`);
    await node.pods('web', 'upf', 'gone', 'other');
    const log = { logLevel: 'debug', logFile: '/var/log/sriov/cni.log', logFormat: 'json' };
    await node.add(
      'web',
      { deviceID: vfPci(0, 0), name: 'storage', ipam, ...log },
      { args: podArgs('web-0') },
    );
    await node.add(
      'upf',
      { deviceID: vfPci(0, 1), name: 'n3', vlan: 100, trust: 'on' },
      { containerId: '3f2a9c01' },
    );
    await node.add('gone', { deviceID: vfPci(0, 2), ipam }, { containerId: '3f2a9c02' });
    await node.sh(`
      ip netns del gone
      modprobe vfio-pci
      cd /sys/bus/pci/devices/${vfPci(0, 3)}
      echo vfio-pci > driver_override; echo ${vfPci(0, 3)} > driver/unbind; echo ${vfPci(0, 3)} > /sys/bus/pci/drivers_probe
      ip address add 192.0.2.1/24 dev $(ls /sys/bus/pci/devices/${vfPci(0, 4)}/net)
      ip link set $(ls /sys/bus/pci/devices/${vfPci(0, 5)}/net) netns other`);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const run = (args: string, stdin = '') => node.machine.run(`sriov ${args}`, { stdin });
  const list = async () => JSON.parse(await node.sh('sriov list --json')) as Listed[];
  const stateOf = async (pci: string) => (await list()).find((device) => device.pci === pci)?.state;

  test('list: every PF and VF, each with its state and owner, as iproute2 sees them', async () => {
    const devices = await list();
    expect(devices.map(({ pci, state }) => [pci, state])).toEqual([
      [pfPci(0), 'up'],
      [vfPci(0, 0), 'attached'],
      [vfPci(0, 1), 'attached'],
      [vfPci(0, 2), 'stale'],
      [vfPci(0, 3), 'dpdk'],
      [vfPci(0, 4), 'foreign'],
      [vfPci(0, 5), 'foreign'],
      [vfPci(0, 6), 'free'],
      [pfPci(1), 'up'],
    ]);
    const [, web, upf, stale, vfio, , elsewhere] = devices;
    expect(web?.owner).toMatchObject({ pod: 'default/web-0', containerId: 'web', network: 'storage' });
    expect(Math.abs(Date.parse(web?.since ?? '') - Date.now())).toBeLessThan(3_600_000);
    expect(web?.netdev).toMatchObject({ ifname: 'net1', netns: '/run/netns/web', mac: (await node.link('net1', 'web')).address }); // prettier-ignore
    expect(upf?.settings?.vlan.id).toBe((await node.vf(0, 1)).vlan_list[0]?.vlan);
    expect(stale?.owner?.containerId).toBe('3f2a9c02');
    expect(vfio?.driver).toBe('vfio-pci');
    expect(elsewhere?.netdev?.netns).toBe('/run/netns/other');
  });

  test('list on a terminal of 120 columns is coloured and fits; elsewhere and with NO_COLOR it is not', async () => {
    const chunks: Buffer[] = [];
    node.machine.terminal.on('data', (chunk: Buffer) => chunks.push(chunk));
    await node.sh(`
      exec 3<>/dev/hvc0
      stty rows 24 cols 120 <&3
      export TERM=linux
      sriov list >&3
      echo ---- >&3
      NO_COLOR=1 sriov list >&3
      echo ---- >&3`);
    const text = () => Buffer.concat(chunks).toString().replaceAll('\r', '');
    await expect.poll(() => text().split('----').length).toBe(3);
    const [coloured = '', plain = ''] = text().split('----\n');
    expect(coloured).toContain('\x1b[36mattached\x1b[0m');
    // The ages go on between the two lists, and their width with them (99s, then 2m).
    const ageless = (text: string) => text.replace(/\b\d+[sm]\b/g, 'AGE').replace(/ +/g, ' ');
    expect(ageless(coloured.replace(/\x1b\[\d+m/g, ''))).toBe(ageless(plain));
    expect(plain).not.toContain('\x1b');
    expect(Math.max(...plain.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120);
  });

  test.each([
    ['a PCI address', vfPci(0, 1)],
    ['the beginning of a container id', '3f2a9c01'],
  ])('inspect: %s', async (_, text) => {
    const { code, stdout } = await run(`inspect ${text}`);
    expect(code).toBe(0);
    expect(stdout).toContain(`(${vfPci(0, 1)})\n`);
    expect(stdout).toMatch(/\n {2}VLAN +100 +100 +none\n/);
    expect(stdout).toMatch(/\n {2}trust +on +on +off\n/);
    expect(stdout).toContain('/run/netns/upf (alive)');
    expect(stdout).toMatch(/time of ADD +[\d.]+ ms: .*device [\d.]+/);
  });

  test('inspect: a pod, with its addresses; what is not there', async () => {
    const [pod] = JSON.parse(await node.sh('sriov inspect default/web-0 --json')) as { addresses: string[]; claim: { times: object } }[]; // prettier-ignore
    const shown = (await node.addresses('net1', 'web')).map(
      ({ local, prefixlen }) => `${local}/${prefixlen}`,
    );
    expect([...(pod?.addresses ?? [])].sort()).toEqual(shown.sort());
    expect(Object.keys(pod?.claim.times ?? {})).toContain('settings');
    const { code, stderr } = await run('inspect nothing');
    expect([code, stderr]).toEqual([1, expect.stringContaining('Nothing here is "nothing"')]);
  });

  test('check: tells what an ADD would do, which then does it, and changes nothing', async () => {
    const pristine = await node.state();
    const config = { cniVersion: '1.0.0', name: 'net', type: 'sriov', pf: pfPci(0), vlan: 7, ipam };
    await node.machine.write('/etc/cni/net.d/10-net.conf', JSON.stringify(config));
    const good = await run('check /etc/cni/net.d/10-net.conf --json');
    const verdict = JSON.parse(good.stdout) as { plugins: { takes: { pci: string }; sets: object }[] };
    expect(good.code).toBe(0);
    expect(verdict.plugins[0]).toMatchObject({ takes: { pci: vfPci(0, 6) }, sets: { vlan: { id: 7 } } });
    expect(await node.state()).toEqual(pristine);
    await node.pods('next');
    const result = await node.add('next', config);
    expect(result.interfaces?.[0]?.pciID).toBe(vfPci(0, 6));
    await node.del('next', config);
  });

  test.each<[string, object, string]>([
    ['a misspelt key', { pf: pfPci(0), trsut: 'on' }, 'did you mean "trust"'],
    ['a VF that a pod has', { deviceID: vfPci(0, 0) }, 'belongs to default/web-0'],
    ['a PF without VFs', { pf: pfPci(1) }, 'has 0 VFs of 7: echo N >'],
  ])('check: %s is what ADD refuses, too, with exit code 3', async (_, config, message) => {
    const full = { cniVersion: '1.0.0', name: 'net', type: 'sriov', ...config };
    const { code, stdout } = await run('check -', JSON.stringify(full));
    expect([code, stdout]).toEqual([3, expect.stringContaining(message)]);
    await node.sh('ip netns add probe 2>/dev/null || true');
    const { answer } = await node.cni('ADD', 'probe', full);
    expect(stdout).toContain(`(code ${answer?.code})`);
  });

  test('check: a file that is not there', async () => {
    expect((await run('check /nowhere')).code).toBe(1);
  });

  test('vfs: refuses while a VF is in use and names each; makes and takes away others', async () => {
    const refused = await run(`vfs ${pfPci(0)} 3`);
    expect(refused.code).toBe(1);
    for (const text of ['is attached: default/web-0', 'is stale', 'is dpdk', 'has an IP address on the host'])
      expect(refused.stderr).toContain(text);
    const made = await run(`vfs ${pfPci(1)} 3`);
    expect([made.code, made.stderr]).toEqual([0, '']);
    expect(made.stdout).toContain(`KERNELS=="${pfPci(1)}", ATTR{device/sriov_numvfs}="3"`);
    const netdevs = (await node.links()).filter(({ parentdev }) => parentdev?.startsWith('0000:02:1'));
    expect(netdevs).toHaveLength(3);
    expect((await run(`vfs ${pfPci(1)} 2`)).code).toBe(0);
    expect(await node.sh(`cat /sys/bus/pci/devices/${pfPci(1)}/sriov_numvfs`)).toBe('2');
  });

  test('gc: says what it would do, then does it; living pods keep theirs', async () => {
    expect(await node.sh('sriov gc --dry-run')).toContain(`${vfPci(0, 2)}  would be given back`);
    expect(await node.sh('sriov gc')).toContain(`${vfPci(0, 2)}  given back`);
    expect(await stateOf(vfPci(0, 2))).toBe('free');
    expect(await stateOf(vfPci(0, 0))).toBe('attached');
  });

  test('release: from a living pod only with --force', async () => {
    const { code, stderr } = await run(`release ${vfPci(0, 1)}`);
    expect([code, stderr]).toEqual([1, expect.stringContaining('in use by container 3f2a9c01')]);
    expect((await run(`release ${pfPci(0)}#1 --force`)).code).toBe(0);
    expect((await run(`release ${vfPci(0, 1)}`)).stderr).toContain('is not claimed');
  });

  test('the log: one JSON line per change with container, interface, VF and duration, and the phases', async () => {
    await node.del('web', { deviceID: vfPci(0, 0), name: 'storage', logLevel: 'debug', logFile: '/var/log/sriov/cni.log', logFormat: 'json' }); // prettier-ignore
    const lines = (await node.sh('cat /var/log/sriov/cni.log'))
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const changes = lines.filter(({ ms, vf }) => ms !== undefined && vf !== undefined);
    expect(changes.map(({ msg }) => msg)).toEqual([
      'PF settings programmed',
      'netdev moved into the pod',
      'addresses configured',
      'netdev moved back to the host',
      'netdev restored',
      'VF given back',
    ]);
    for (const line of changes)
      expect(line).toMatchObject({ containerID: 'web', ifname: 'net1', vf: vfPci(0, 0), ms: expect.any(Number) as number }); // prettier-ignore
    const phases = lines.filter(({ msg }) => msg === 'phases in ms');
    expect(phases.map(({ command }) => command)).toEqual(['ADD', 'DEL']);
    expect(phases[0]).toMatchObject({
      device: expect.any(Number) as number,
      start: expect.any(Number) as number,
    });
  });

  test('the log: of many runs at once one puts a file of 100 MB aside, and no line is lost', async () => {
    const config = JSON.stringify({
      cniVersion: '1.1.0',
      name: 'n',
      type: 'sriov',
      vlan: 5000,
      logFile: '/var/log/big.log',
    });
    const { stdout } = await node.machine.run(
      `CNI_COMMAND=STATUS /opt/cni/bin/sriov <<<'${config}' >/dev/null # whose file it is, its first line tells
       yes filler | head -c 5000 >>/var/log/big.log # a file that begins with zeros is no text
       truncate -s 100M /var/log/big.log
       for n in 1 2 3 4; do
         CNI_COMMAND=STATUS /opt/cni/bin/sriov <<<'${config}' >/tmp/answer.$n &
       done
       wait
       stat -c '%n %s' /var/log/big.log*
       cat /var/log/big.log /var/log/big.log.1 | tr -d '\\0' | grep -c '5000 is not allowed'
       cat /tmp/answer.* | grep -c '"code":7'`,
    );
    expect(stdout).toMatch(/^\/var\/log\/big\.log \d{3,4}\n\/var\/log\/big\.log\.1 10485\d{4}\n5\n4\n$/);
  });
});
