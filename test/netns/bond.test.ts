import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { refuseNoDevice } from '../../src/attach/possible.ts';
import { parseConfig } from '../../src/cni/config.ts';
import { parseRequest } from '../../src/cni/request.ts';
import { judge } from '../../src/inspect/dry-run.ts';
import { pfTree } from '../support/sysfs-tree.ts';
import { TestHost } from '../support/test-host.ts';

/** A PF "ens1" at 0000:03:00.0, whose VFs' netdevs are links of the test's own; the kernel here need not have the driver "bonding". */
function stage(numVfs: number) {
  const all = new TestHost([pfTree({ pci: '0000:03:00.0', numVfs })], { claims: {}, pci: { vf_lock: {} } });
  for (const name of ['ens1', ...Array.from({ length: numVfs }, (_, i) => `ens1v${i}`)])
    all.netns.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
  return all;
}

const base = { cniVersion: '1.0.0', name: 'storage', type: 'sriov' };
const ofOnePf = { ...base, bond: { pfs: ['ens1'] } };

describe('what an ADD with a bond would do', () => {
  test('takes two different VFs of one PF, and writes nothing', async () => {
    using s = stage(3);
    const files = () => readdirSync(s.state.root, { recursive: true }).sort();
    const before = files();
    const { devices, refused } = await judge(s.host, ofOnePf, {}, false);
    expect(refused).toEqual([]);
    expect(devices.map(({ takes }) => takes.index)).toEqual([0, 1]);
    expect(files()).toEqual(before);
  });

  test('tells that a PF with one VF is not enough', async () => {
    using s = stage(1);
    const { devices, refused } = await judge(s.host, ofOnePf, {}, false);
    expect(devices).toHaveLength(1);
    expect(refused).toMatchObject([{ code: 11 }]);
    expect(refused[0]?.details).toContain('the bond has it already');
  });

  test('tells that both VFs of one PF cannot have one MAC', async () => {
    using s = stage(2);
    const { refused } = await judge(s.host, { ...ofOnePf, mac: '02:00:00:00:00:01' }, {}, false);
    expect(refused).toMatchObject([{ code: 7 }]);
    expect(refused[0]?.message).toContain('both VFs of the bond are of one PF (0000:03:00.0)');
  });
});

describe('STATUS of a network with a bond', () => {
  const status = (host: TestHost['host'], config: object) => {
    const variables = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1' };
    return refuseNoDevice(host, parseConfig(parseRequest('ADD', variables, JSON.stringify(config))));
  };

  test('is well with two VFs', async () => {
    using s = stage(2);
    await status(s.host, ofOnePf);
    await status(s.host, { ...base, bond: { pfs: ['ens1#0', 'ens1#1'] } });
  });

  test.each([
    ['one PF with one VF', { pfs: ['ens1'] }, 'A bond needs two VFs to take: PF ens1 has 1 VFs'],
    ['the same VF twice', { pfs: ['ens1#0', 'ens1#0'] }, 'A bond needs two VFs to take'],
    ['a PF that is not there', { pfs: ['ens1', 'ens9'] }, 'Cannot find PF "ens9"'],
    ['a device that is not there', { devices: ['0000:03:10.0', '0000:09:00.0'] }, 'no such PCI device'],
  ])('is not with %s', async (_, bond, message) => {
    using s = stage(1);
    await expect(status(s.host, { ...base, bond })).rejects.toThrow(message);
  });
});
