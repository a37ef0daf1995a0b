import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startLab } from '../../lab/lab.ts';
import type { Machine } from '../../lab/machine.ts';
import type { VfSettings } from '../../src/vf/settings.ts';
import { guestProbePath, makeGuestProbe, probeValue, runProbe } from '../support/guest-probe.ts';
import type { ShownLink, ShownVf } from '../support/node.ts';

// The kernel's simulated card takes what igb refuses. It has no VFs but their numbers, so there is no ADD: our code of the PF's settings is
// called by a program of its own, and judged by ip(8).
const device = { bus: 'netdevsim', device: 'netdevsim7' };
let lab: Machine;
let pf: string;
const workFolder = mkdtempSync(`${tmpdir()}/guest-probe-`);

beforeAll(async () => {
  const probe = await makeGuestProbe(workFolder);
  lab = await startLab({ pfs: 0, disks: ['netdevsim'], files: { [guestProbePath]: probe } });
  await lab.output(`
    set -e
    modprobe -a psample macsec udp_tunnel
    insmod /lab/netdevsim.ko
    echo "7 1" > /sys/bus/netdevsim/new_device
    echo 3 > /sys/bus/netdevsim/devices/netdevsim7/sriov_numvfs`);
  pf = await lab.output('ls /sys/bus/netdevsim/devices/netdevsim7/net');
});
afterAll(async () => {
  await lab.stop();
  rmSync(workFolder, { recursive: true });
});

async function link(): Promise<ShownLink> {
  const [shown] = JSON.parse(await lab.output(`ip -j -d link show ${pf}`)) as ShownLink[];
  return shown as ShownLink;
}
async function shown(index: number): Promise<ShownVf> {
  return (await link()).vfinfo_list?.find(({ vf }) => vf === index) as ShownVf;
}

const everything = {
  mac: '02:00:00:00:0e:01',
  vlan: { id: 100, qos: 3, proto: '802.1ad' },
  rateMbps: { min: 50, max: 100 },
  spoofchk: true,
  linkState: 'disable',
  trust: true,
} as const satisfies VfSettings;

describe('settings of a VF', () => {
  let before: ShownVf[] | undefined;
  beforeEach(async () => {
    before = (await link()).vfinfo_list;
  });
  const expectPristine = async () => expect((await link()).vfinfo_list).toEqual(before);

  test('802.1ad, a minimal rate, a link state and the rest, in one message, read back and restored', async () => {
    const original = (await probeValue(lab, 'settings', pf, 1)) as VfSettings;
    await probeValue(lab, 'apply', pf, 1, everything);
    expect(await shown(1)).toMatchObject({
      address: everything.mac,
      vlan_list: [{ vlan: 100, qos: 3, protocol: '802.1ad' }],
      rate: { min_tx: 50, max_tx: 100 },
      spoofchk: true,
      link_state: 'disable',
      trust: true,
    });
    expect(await probeValue(lab, 'settings', pf, 1)).toEqual(everything);
    expect(await probeValue(lab, 'check', pf, 1, everything)).toEqual([]);
    await lab.output(
      `ip link set ${pf} vf 1 state enable; ip link set ${pf} vf 1 max_tx_rate 100 min_tx_rate 20`,
    );
    expect(await probeValue(lab, 'check', pf, 1, everything)).toEqual([
      'the PF has "min_tx_rate": 20, "max_tx_rate": 100 for it, not "min_tx_rate": 50, "max_tx_rate": 100',
      'the PF has "link_state": "enable" for it, not "link_state": "disable"',
    ]);
    await probeValue(lab, 'restore', pf, 1, original, everything);
    await expectPristine();
  });

  test.each<[name: string, command: string, asked: VfSettings]>([
    ['a VLAN of 802.1ad', 'vlan 5 qos 2 proto 802.1ad', { vlan: { id: 7, qos: 0, proto: '802.1q' } }],
    ['a VLAN of 802.1Q', 'vlan 5 qos 2', { vlan: { id: 5, qos: 2, proto: '802.1ad' } }],
    ['both rates', 'max_tx_rate 900 min_tx_rate 300', { rateMbps: { min: 0, max: 100 } }],
    ['a link that is always up', 'state enable', { linkState: 'disable' }],
    ['a link that is down', 'state disable', { linkState: 'auto' }],
  ])('that an operator has set come back: %s', async (_, command, asked) => {
    await lab.output(`ip link set ${pf} vf 2 ${command}`);
    const operators = await shown(2);
    const original = (await probeValue(lab, 'settings', pf, 2)) as VfSettings;
    await probeValue(lab, 'apply', pf, 2, asked);
    expect(await shown(2)).not.toEqual(operators);
    await probeValue(lab, 'restore', pf, 2, original, asked);
    expect(await shown(2)).toEqual(operators);
    await lab.output(
      `ip link set ${pf} vf 2 vlan 0; ip link set ${pf} vf 2 max_tx_rate 0 min_tx_rate 0; ip link set ${pf} vf 2 state auto`,
    );
    await expectPristine();
  });

  test("the driver's refusal names key and value, and what was set before it is undone", async () => {
    const original = (await probeValue(lab, 'settings', pf, 0)) as VfSettings;
    const asked: VfSettings = { ...everything, rateMbps: { min: 200, max: 100 } };
    // Neither kernel nor driver has words for it; those that `ip link` prints are its own.
    expect((await runProbe(lab, 'apply', pf, 0, asked)).error).toEqual({
      name: 'SettingRefused',
      message:
        'Cannot set "min_tx_rate": 200, "max_tx_rate": 100 on VF 0 (netdevsim7-0) of PF eth0: ' +
        'its driver netdevsim answered EINVAL',
    });
    // The kernel stops at the first refusal, and leaves set what came before it.
    expect(await shown(0)).toMatchObject({
      address: everything.mac,
      vlan_list: [{ vlan: 100 }],
      trust: false,
    });
    await probeValue(lab, 'restore', pf, 0, original, asked);
    await expectPristine();
  });

  test('of a VF that is not there are refused', async () => {
    const { error } = await runProbe(lab, 'apply', pf, 9, { trust: true });
    expect(error?.message).toMatch(/^Cannot set "trust": "on" on VF 9 .* answered EINVAL/);
    expect((await runProbe(lab, 'settings', pf, 9)).error?.message).toContain('EAGAIN');
    await expectPristine();
  });
});

describe('switchdev mode', () => {
  const mode = (name: string) => lab.output(`devlink dev eswitch set netdevsim/netdevsim7 mode ${name}`);

  test('is what devlink says, not the switch id, which this card always has', async () => {
    const ids = await lab.output(`cd /sys/class/net/${pf}; cat phys_switch_id phys_port_name`);
    expect(ids).toMatch(/^[0-9a-f]+\np\d+$/);
    expect(await probeValue(lab, 'isSwitchdev', device.bus, device.device)).toBe(false);
    await mode('switchdev');
    expect(await probeValue(lab, 'isSwitchdev', device.bus, device.device)).toBe(true);
    const { error } = await runProbe(lab, 'apply', pf, 0, { rateMbps: { min: 0, max: 100 } });
    expect(error?.message).toMatch(/^Cannot set "max_tx_rate": 100 on VF 0 .* answered EOPNOTSUPP/);
    await mode('legacy');
    expect(await probeValue(lab, 'isSwitchdev', device.bus, device.device)).toBe(false);
  });

  test('is nothing that an unknown device has', async () => {
    expect(await probeValue(lab, 'isSwitchdev', 'pci', '0000:ff:00.0')).toBe(false);
  });
});
