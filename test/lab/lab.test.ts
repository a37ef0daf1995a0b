import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { labArch } from '../../lab/arch.ts';
import { startLab } from '../../lab/lab.ts';
import type { Machine } from '../../lab/machine.ts';
import { allowAll, refuse } from '../support/igb-faults.ts';
import { TestNode } from '../support/node.ts';

const vf = (index: number) => `0000:01:10.${2 * index}`;

describe('the lab', () => {
  let lab: Machine;
  let pf: string;

  beforeAll(async () => {
    lab = await startLab();
    await lab.output('echo 2 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs');
    pf = await lab.output('ls /sys/bus/pci/devices/0000:01:00.0/net');
    // The card reports its link some seconds later, and the VFs have no carrier before.
    await lab.output(
      `ip link set ${pf} up; until grep -q 1 /sys/class/net/${pf}/carrier; do sleep 0.1; done`,
    );
  });
  afterAll(() => lab.stop());

  test('its processor is the one that was asked for', async () => {
    expect(await lab.output('uname -m')).toBe(labArch === 'arm64' ? 'aarch64' : 'x86_64');
  });

  test('run() gives exit code, both outputs and the environment', async () => {
    const { code, stdout, stderr } = await lab.run('echo "out $word"; echo err >&2; exit 7', {
      env: { word: 'a b' },
    });
    expect({ code, stdout, stderr }).toEqual({ code: 7, stdout: 'out a b\n', stderr: 'err\n' });
  });

  test('run() tells the signal that ended a script', async () => {
    expect((await lab.run('kill -TERM $$')).code).toBe(128 + 15);
  });

  test('run() passes megabytes of any bytes both ways', async () => {
    const stdin = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7919) >> 3));
    const { bytes } = await lab.run('cat', { stdin });
    expect(bytes.equals(stdin)).toBe(true);
  });

  test('run() keeps 16 concurrent scripts apart', async () => {
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, index) => lab.output(`sleep 0.2; echo ${index}; sleep 0.2; echo end`)),
    );
    expect(answers).toEqual(Array.from({ length: 16 }, (_, index) => `${index}\nend`));
  });

  test('run() does not wait for daemons and kills what takes too long', async () => {
    await lab.output('sleep 300 >/dev/null & echo $! >/run/daemon');
    expect((await lab.run('kill $(cat /run/daemon)')).code).toBe(0);
    await expect(lab.run('echo begun; sleep 4321', { timeoutMs: 1000 })).rejects.toThrow(
      /within 1000 ms.*begun/s,
    );
    expect(await lab.output('pgrep -f "sleep 432[1]" || true')).toBe('');
  });

  test('write() and put() make files with their permissions', async () => {
    await lab.write('/tmp/deep/er/file', 'text\n', 0o600);
    await lab.put(import.meta.filename, '/tmp/test.ts');
    expect(
      await lab.output('stat -c %a /tmp/deep/er/file; cat /tmp/deep/er/file; wc -c </tmp/test.ts'),
    ).toMatch(/^600\ntext\n\d{4}$/);
  });

  test('two VFs in two namespaces reach each other', async () => {
    const script = `
      for i in 0 1; do
        ip netns add pod$i
        name=$(ls /sys/bus/pci/devices/0000:01:10.$((2 * i))/net)
        ip link set $name netns pod$i name net1 up
        ip -n pod$i addr add 10.1.0.$((i + 1))/24 dev net1
      done
      # igbvf looks for its link every two seconds only.
      for i in 0 1; do until ip -n pod$i link show net1 | grep -q LOWER_UP; do sleep 0.1; done; done
      ip netns exec pod0 ping -c 3 -i 0.2 -w 20 10.1.0.2`;
    expect(await lab.output(script)).toContain(' 0% packet loss');
    await lab.output(
      'ip -n pod0 link set net1 netns 1 name back0; ip -n pod1 link set net1 netns 1 name back1',
    );
    await lab.output('ip netns del pod0; ip netns del pod1');
  });

  test('igb takes the settings that it is known to take', async () => {
    await lab.output(
      `ip link set ${pf} vf 0 mac 02:aa:00:00:00:01 vlan 100 qos 3 max_tx_rate 200 spoofchk off trust on`,
    );
    const [link] = JSON.parse(await lab.output(`ip -json -details link show ${pf}`)) as [
      { vfinfo_list: object[] },
    ];
    expect(link.vfinfo_list[0]).toMatchObject({
      address: '02:aa:00:00:00:01',
      vlan_list: [{ vlan: 100, qos: 3 }],
      rate: { max_tx: 200, min_tx: 0 },
      spoofchk: false,
      trust: true,
    });
  });

  test.for([
    ['vlan 100 proto 802.1ad', 'Protocol not supported'],
    ['state enable', 'Operation not supported'],
    ['min_tx_rate 100 max_tx_rate 200', 'Invalid argument'],
  ])('igb refuses %s', async ([setting, answer]) => {
    const { code, stderr } = await lab.run(`ip link set ${pf} vf 1 ${setting}`);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining(answer as string) as string,
    });
  });

  test('a VF can be bound to vfio-pci', async () => {
    const device = `/sys/bus/pci/devices/${vf(1)}`;
    await lab.output(`modprobe vfio-pci; echo vfio-pci >${device}/driver_override
      echo ${vf(1)} >${device}/driver/unbind; echo ${vf(1)} >/sys/bus/pci/drivers_probe`);
    expect(await lab.output(`basename $(readlink ${device}/driver)`)).toBe('vfio-pci');
    expect(
      await lab.output(`test -c /dev/vfio/$(basename $(readlink ${device}/iommu_group)) && echo there`),
    ).toBe('there');
  });

  test("Debian's CNI plugins stand in /opt/cni/bin", async () => {
    expect(await lab.output('CNI_COMMAND=VERSION host-local')).toContain('"supportedVersions"');
  });

  test('the kernel has nothing to complain about', () => {
    expect(lab.console()).not.toMatch(/WARNING:|BUG:|Oops|Call Trace/);
  });
});

test('startLab() gives four cards on two segments, and no IOMMU, where asked', async () => {
  await using lab = await startLab({ pfs: 4, segments: [0, 0, 1, 1], iommu: false });
  const cards = await lab.output('cat /sys/bus/pci/drivers/igb/0000:*/sriov_totalvfs | xargs');
  expect(cards).toBe('7 7 7 7');
  expect(await lab.output('ls /sys/kernel/iommu_groups | wc -l')).toBe('0');
  const script = `
    for i in 1 2 3 4; do
      ip netns add p$i; ip link set $(ls /sys/bus/pci/devices/0000:0$i:00.0/net) netns p$i name net1 up
      ip -n p$i addr add 10.1.0.$i/24 dev net1
    done
    for i in 2 3 4; do ip netns exec p1 ping -q -c 3 -i 0.2 -W 2 10.1.0.$i >/dev/null && echo reached $i; done; true`;
  expect(await lab.output(script)).toBe('reached 2');
});

test('a crash of the guest rejects what is running, with the console', async () => {
  await using lab = await startLab({ pfs: 0 });
  await Promise.all([
    expect(lab.run('sleep 100')).rejects.toThrow(
      /machine ended.*Kernel panic - not syncing: sysrq triggered crash/s,
    ),
    expect(lab.run('echo c >/proc/sysrq-trigger')).rejects.toThrow('machine ended'),
  ]);
  await expect(lab.run('true')).rejects.toThrow('machine ended');
});

test.runIf(labArch === 'x64')('the PF driver refuses what a test names, for as long as it says', async () => {
  await using node = await TestNode.start({ pfs: 1, vfs: 3, disks: ['faults'] });
  const shownVfs = async () => {
    const [pf] = (await node.links()).filter(({ vfinfo_list }) => vfinfo_list !== undefined);
    return pf?.vfinfo_list?.map(({ vf }) => vf);
  };
  const setVlan = async (vlan: number) => (await node.machine.run(`ip link set eth0 vf 1 vlan ${vlan}`)).code;
  await refuse(node, { call: 'get_vf_config', vf: 1 });
  expect(await shownVfs()).toEqual([0, 2]);
  expect(await allowAll(node)).toBe(1);
  await refuse(node, { call: 'set_vf_vlan', vf: 1, times: 1 });
  expect([await setVlan(12), await setVlan(13)]).toEqual([2, 0]);
  expect((await node.vf(0, 1)).vlan_list[0]?.vlan).toBe(13);
  expect(node.machine.console()).not.toMatch(/WARNING:|Oops|panic/);
});
