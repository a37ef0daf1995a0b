import { describe, expect, test } from 'vitest';
import { parseOptions } from '../../../src/attach/options.ts';

const parse = (...layers: Record<string, string>[]) => parseOptions(layers, ['gateway']);
const settingsOf = (options: Record<string, string>) => parse({ pf: 'e', ...options }).wish.settings;

describe('every option as text', () => {
  test.each<[Record<string, string>, object]>([
    [{ vlan: '100', vlanQoS: '3', vlanProto: '802.1Q' }, { settings: { vlan: { id: 100, qos: 3, proto: '802.1q' } } }], // prettier-ignore
    [{ vlan: '0' }, { settings: { vlan: { id: 0, qos: 0, proto: '802.1q' } } }],
    [{ mac: '02-00-00-00-00-01' }, { settings: { mac: '02:00:00:00:00:01' } }],
    [
      { min_tx_rate: '10', max_tx_rate: '200' },
      { minTxRate: 10, maxTxRate: 200 },
    ],
    [{ link_state: 'enable' }, { settings: { linkState: 'enable' } }],
    [{ mtu: '9000' }, { mtu: 9000 }],
    [{ promisc: '' }, { modes: { promisc: true, allmulti: undefined } }],
    [{ allmulti: 'yes', promisc: 'off' }, { modes: { promisc: false, allmulti: true } }],
    [{ reset: '1' }, { reset: true }],
    [{ dpdk: 'true' }, { dpdk: {} }],
    [{ dpdk: '' }, { dpdk: {} }],
    [{ dpdk: 'no' }, { dpdk: undefined }],
    [{ dpdk: 'vfio-pci' }, { dpdk: { driver: 'vfio-pci' } }],
    [{ rdma: '' }, { rdma: true, device: { pool: { needsRdma: true } } }],
    [{ rdma: 'no' }, { rdma: false }],
    [{ vf: '3' }, { device: { kind: 'pool', pool: { pfs: [{ pf: 'e' }], index: 3 } } }],
    [{ driver: 'igbvf,iavf' }, { device: { pool: { drivers: ['igbvf', 'iavf'] } } }],
    [{ pf: 'e#0-3,7' }, { device: { pool: { pfs: [{ pf: 'e', ranges: [[0, 3], [7, 7]] }] } } }], // prettier-ignore
    [{ deviceID: '03:02.0' }, { device: { kind: 'vf', pci: '0000:03:02.0' } }],
  ])('%j', (options, wish) => expect(parse({ pf: 'e', ...options }).wish).toMatchObject(wish));

  test('devices, with commas between them', () => {
    expect(parse({ devices: '02:00.0,0000:03:00.0' }).wish.device).toMatchObject({
      kind: 'pool',
      pool: { devices: ['0000:02:00.0', '0000:03:00.0'] },
    });
  });

  test.each(['1', 'true', 'TRUE', 'on', 'yes'])('trust=%s is on', (text) => {
    expect(settingsOf({ trust: text }).trust).toBe(true);
  });
  test.each(['0', 'false', 'off', 'no'])('spoofchk=%s is off', (text) => {
    expect(settingsOf({ spoofchk: text }).spoofchk).toBe(false);
  });

  test('case does not count: the command line of Docker writes options of a container in lower case', () => {
    expect(settingsOf({ VLANQOS: '2', Vlan: '5' }).vlan).toEqual({ id: 5, qos: 2, proto: '802.1q' });
  });
});

describe('names of other plugins', () => {
  test.each(['pf_iface', 'netdevice', 'parent'])('%s', (name) => {
    expect(parse({ [name]: 'ens1f0' }).wish.device).toMatchObject({ pool: { pfs: [{ pf: 'ens1f0' }] } });
  });
  test('vlanid', () => expect(settingsOf({ vlanid: '7' }).vlan?.id).toBe(7));
  test('com.docker.network.driver.mtu', () => {
    expect(parse({ pf: 'e', 'com.docker.network.driver.mtu': '1400' }).wish.mtu).toBe(1400);
  });
  test('privileged', () => {
    expect(settingsOf({ privileged: '1' })).toMatchObject({ spoofchk: false, trust: true });
    expect(settingsOf({ privileged: '0' })).toMatchObject({ spoofchk: true, trust: false });
  });
  test('mode', () => {
    expect(parse({ netdevice: 'e', mode: 'sriov' }).wish.device?.kind).toBe('pool');
    expect(parse({ netdevice: 'e', mode: 'passthrough' }).wish.device).toEqual({ kind: 'pf', pf: 'e' });
  });
});

describe('a container over its network', () => {
  test('its words count more', () => {
    const { vlan } = parse({ pf: 'e', vlan: '5', vlanQoS: '1' }, { vlan: '7' }).wish.settings;
    expect(vlan).toMatchObject({ id: 7, qos: 1 });
  });
  test('its device, too, whichever way it is named', () => {
    expect(parse({ pf: 'e', vf: '2' }, { deviceID: '03:02.0' }).wish.device?.kind).toBe('vf');
    expect(parse({ deviceID: '03:02.0' }, { pf: 'e' }).wish.device?.kind).toBe('pool');
    expect(parse({ pf: 'e', vf: '2' }, { devices: '03:02.0' }).wish.device).toMatchObject({
      pool: { pfs: [], devices: ['0000:03:02.0'] },
    });
    expect(parse({ devices: '03:02.0' }, { pf: 'e' }).wish.device).toMatchObject({
      pool: { pfs: [{ pf: 'e' }] },
    });
    expect(parse({ devices: '03:02.0' }, { deviceID: '04:00.0' }).wish.device?.kind).toBe('vf');
  });
  test('another name of the same thing is the same thing', () => {
    expect(parse({ vlan: '5', pf: 'e' }, { vlanid: '7' }).wish.settings.vlan?.id).toBe(7);
  });
});

test("the door's own options come back as text", () => {
  expect([...parse({ pf: 'e', GATEWAY: 'none' }).own]).toEqual([['gateway', 'none']]);
});

test.each<[Record<string, string>, string]>([
  [{ vlan: '5x' }, '"vlan": "5x" is not allowed: must be a whole number from 0 to 4094'],
  [{ vlan: '' }, '"vlan": "" is not allowed: must be a whole number from 0 to 4094'],
  [{ vlan: '1e2' }, '"vlan": "1e2" is not allowed'],
  [{ vlan: ' 5' }, '"vlan": " 5" is not allowed'],
  [{ vlanQoS: '5' }, '"vlanQoS": "5" is not allowed: it needs "vlan"'],
  [{ trust: 'maybe' }, '"trust": "maybe" is not allowed: must be "on" or "off"'],
  [{ trust: '' }, '"trust": "" is not allowed'],
  [{ dpdk: 'vfio' }, 'must be true, false or the driver to bind (vfio-pci'],
  [{ privileged: 'x', pf: 'e' }, '"privileged": "x" is not allowed: must be true or false'],
  [{ privileged: '1', trust: 'on', pf: 'e' }, '"trust" is given twice'],
  [{ pf: 'e', parent: 'e' }, '"pf" is given twice'],
  [{ phys_network: 'x' }, 'name the PF: pf=ens1f0'],
  [{ mode: 'bridge' }, 'must be sriov or passthrough'],
  [{ mode: 'passthrough' }, 'it takes one PF'],
  [{ mode: 'passthrough', pf: 'e', vlan: '5' }, 'takes no vlan'],
  [{ mode: 'passthrough', pf: 'e', vlan: '0' }, 'takes no vlan'],
  [{ mode: 'passthrough', pf: 'e', mac: 'x' }, 'must be a unicast MAC'],
  [{ vlam: '5' }, 'did you mean "vlan"?'],
  [{ priviledged: '1' }, 'did you mean "privileged"?'],
  [{ netdevise: 'ens1f0' }, 'did you mean "netdevice"?'],
  [{ devices: 'x,y' }, 'must be PCI addresses of VFs or NICs with commas between them'],
  [{ constructor: 'x' }, '"constructor": "x" is not allowed: there is no such option'],
  [{ '\x1b[31m': 'x' }, '"\\u001b[31m": "x" is not allowed'],
])('%j is refused', (options, message) => expect(() => parse(options)).toThrow(message));

test('everything that is wrong is told at once', () => {
  expect(() => parse({ vlan: 'x', mtu: '5' })).toThrow(/"vlan".*; "mtu"/);
});
