import { describe, expect, test } from 'vitest';
import { wantedSettings } from '../../../src/attach/wish.ts';
import { logSettings } from '../../../src/attach/open-log.ts';
import { type NetConf, parseConfig } from '../../../src/cni/config.ts';
import { parseRequest } from '../../../src/cni/request.ts';

const base = { cniVersion: '1.0.0', name: 'net', type: 'sriov', deviceID: '0000:03:02.0' };

function parse(config: object, cniArgs = '') {
  const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1', CNI_ARGS: cniArgs };
  return parseConfig(parseRequest('ADD', env, JSON.stringify({ ...base, ...config })));
}

describe('parseConfig() understands what the Go plugin understands', () => {
  test.each<[string, object, Partial<NetConf>]>([
    [
      'no settings',
      {},
      { device: { kind: 'vf', pci: '0000:03:02.0' }, settings: {}, mtu: undefined, hasIpam: false },
    ],
    [
      'null as absent',
      { vlan: null, vlanQoS: null, min_tx_rate: null, mac: null },
      { settings: {}, minTxRate: undefined },
    ],
    [
      '"" as absent',
      { mac: '', spoofchk: '', trust: '', link_state: '', logLevel: '', logFile: '' },
      { settings: {} },
    ],
    ['vlan with its defaults', { vlan: 100 }, { settings: { vlan: { id: 100, qos: 0, proto: '802.1q' } } }],
    ['vlan 0 as a wish', { vlan: 0 }, { settings: { vlan: { id: 0, qos: 0, proto: '802.1q' } } }],
    [
      'vlanProto in any case',
      { vlan: 5, vlanQoS: 3, vlanProto: '802.1AD' },
      { settings: { vlan: { id: 5, qos: 3, proto: '802.1ad' } } },
    ],
    [
      'vlanQoS 0 with vlan 0',
      { vlan: 0, vlanQoS: 0 },
      { settings: { vlan: { id: 0, qos: 0, proto: '802.1q' } } },
    ],
    ['on and off', { spoofchk: 'on', trust: 'off' }, { settings: { spoofchk: true, trust: false } }],
    ['link_state', { link_state: 'disable' }, { settings: { linkState: 'disable' } }],
    ['rates', { min_tx_rate: 10, max_tx_rate: 0 }, { minTxRate: 10, maxTxRate: 0 }],
    ['a MAC with dashes', { mac: 'CA-FE-C0-FF-EE-00' }, { settings: { mac: 'ca:fe:c0:ff:ee:00' } }],
    ['a MAC with dots', { mac: 'cafe.c0ff.ee00' }, { settings: { mac: 'ca:fe:c0:ff:ee:00' } }],
    [
      'keys in any case, as Go decodes them',
      { vlanQos: 2, VLAN: 7 },
      { settings: { vlan: { id: 7, qos: 2, proto: '802.1q' } } },
    ],
    ['an empty ipam', { ipam: {} }, { hasIpam: false }],
    ['an ipam without type', { ipam: { type: '' } }, { hasIpam: false }],
    ['an ipam', { ipam: { type: 'host-local', ranges: [] } }, { hasIpam: true }],
    [
      'pciBusID alone',
      { deviceID: '', pciBusID: '0000:03:02.1' },
      { device: { kind: 'vf', pci: '0000:03:02.1' } },
    ],
    ['mtu', { mtu: 9000 }, { mtu: 9000 }],
    ['dpdk', { dpdk: true }, { dpdk: {} }],
    ['no dpdk', { dpdk: false }, { dpdk: undefined }],
    ['rdma', { rdma: true }, { rdma: true }],
    ['no rdma', { rdma: false }, { rdma: false }],
    [
      'dpdk with a driver',
      { dpdk: { driver: 'igb_uio', force: true } },
      { dpdk: { driver: 'igb_uio', force: true } },
    ],
  ])('%s', (_, config, expected) => {
    expect(parse(config)).toEqual({ ...parse({}), ...expected });
  });
});

describe('parseConfig() refuses with code 7, naming key, value and what is allowed', () => {
  test.each<[object, string]>([
    [{ vlan: 4095 }, '"vlan": 4095 is not allowed: must be a whole number from 0 to 4094'],
    [{ vlan: '100' }, '"vlan": "100" is not allowed'],
    [{ vlan: 1.5 }, '"vlan": 1.5 is not allowed'],
    [{ vlan: 100, vlanQoS: 8 }, '"vlanQoS": 8 is not allowed: must be a whole number from 0 to 7'],
    [{ vlanQoS: 1 }, '"vlanQoS": 1 is not allowed: it needs "vlan"'],
    [{ vlanProto: '802.1q' }, '"vlanProto": "802.1q" is not allowed: it needs "vlan"'],
    [{ vlan: 0, vlanQoS: 1 }, '"vlan" 0 means no VLAN'],
    [{ vlan: 0, vlanProto: '802.1ad' }, '"vlan" 0 means no VLAN'],
    [{ vlan: 1, vlanProto: '' }, '"vlanProto": "" is not allowed'],
    [{ spoofchk: 'yes' }, '"spoofchk": "yes" is not allowed: must be "on" or "off"'],
    [{ trust: true }, '"trust": true is not allowed: must be "on" or "off"'],
    [{ link_state: 'up' }, '"link_state": "up" is not allowed: must be "auto", "enable" or "disable"'],
    [{ mac: '01:00:5e:00:00:01' }, '"mac": "01:00:5e:00:00:01" is not allowed: must be a unicast MAC'],
    [{ mac: '00:00:00:00:00:00' }, '"mac": "00:00:00:00:00:00" is not allowed'],
    [{ mac: 'ff:ff:ff:ff:ff:ff' }, '"mac": "ff:ff:ff:ff:ff:ff" is not allowed'],
    [{ mac: '02:00:00:00:01' }, '"mac": "02:00:00:00:01" is not allowed'],
    [{ mac: '02:00:00:00:00:0g' }, '"mac": "02:00:00:00:00:0g" is not allowed'],
    [{ min_tx_rate: -1 }, '"min_tx_rate": -1 is not allowed'],
    [
      { min_tx_rate: 10, max_tx_rate: 5 },
      '"min_tx_rate": 10 is not allowed: it is more than "max_tx_rate": 5',
    ],
    [{ deviceID: 'ens1f0' }, '"deviceID": "ens1f0" is not allowed: must be the PCI address of a VF'],
    [{ devices: [] }, '"devices": [] is not allowed: must be a list of PCI addresses of VFs or NICs'],
    [{ devices: ['eth1'] }, '"devices": ["eth1"] is not allowed: must be a list of PCI addresses'],
    [{ devices: '0000:02:00.0' }, '"devices": "0000:02:00.0" is not allowed'],
    [{ deviceID: '', devices: ['02:00.0'], vf: 1 }, '"vf": 1 is not allowed: it needs "pf"'],
    [
      { pf: 'ens1', devices: ['02:00.0'] },
      '"devices": ["02:00.0"] is not allowed: a pool is a list of devices',
    ],
    [{ driver: 'iavf' }, '"driver": "iavf" is not allowed: it needs "pf" or "devices"'],
    [{ device: 'eth1' }, 'did you mean "devices"?'],
    [{ ipam: { type: '../evil' } }, '"ipam": {"type":"../evil"} is not allowed'],
    [{ ipam: 'host-local' }, '"ipam": "host-local" is not allowed'],
    [{ mtu: 10 }, '"mtu": 10 is not allowed'],
    [{ 'max-tx-rate': 100 }, '"max-tx-rate": 100 is not allowed: did you mean "max_tx_rate"?'],
    [{ linkstate: 'auto' }, 'did you mean "link_state"?'],
    [{ vlans: 5 }, 'did you mean "vlan"?'],
    [{ vlan: 5, VLAN: 6 }, '"vlan" is given twice'],
    [{ runtimeConfig: { mac: 'nonsense' } }, '"runtimeConfig.mac": "nonsense" is not allowed'],
    [{ vlan: 4095, trust: 'x' }, 'to 4094; "trust": "x"'], // all of it at once
  ])('%j', (config, text) => {
    expect(() => parse(config)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(text) as string }),
    );
  });
});

test("keys that are nobody's we know of pass with a warning", () => {
  const foreign = { capabilities: {}, args: {}, 'cni.dev/x': 1, dns: {}, hairpinMode: true, color: 'red' };
  expect(parse(foreign).warnings).toEqual(['keys that are not ours: hairpinMode, color']);
});

describe('pools', () => {
  const poolOf = (config: object) => parse({ deviceID: undefined, ...config }).device;
  test.each<[object, object]>([
    [{ pf: 'ens1f0' }, { pfs: [{ pf: 'ens1f0' }] }],
    [{ pf: '0000:03:00.0' }, { pfs: [{ pf: '0000:03:00.0' }] }],
    [{ pf: 'ens1f0#0-3,7' }, { pfs: [{ pf: 'ens1f0', ranges: [[0, 3], [7, 7]] }] }], // prettier-ignore
    [{ pf: ['ens1f0', 'ens1f1#2'] }, { pfs: [{ pf: 'ens1f0' }, { pf: 'ens1f1', ranges: [[2, 2]] }] }],
    [
      { pf: 'ens1f0', vf: 0 },
      { pfs: [{ pf: 'ens1f0' }], index: 0 },
    ],
    [
      { pf: 'ens1f0', driver: 'iavf' },
      { pfs: [{ pf: 'ens1f0' }], drivers: ['iavf'] },
    ],
    [
      { pf: 'ens1f0', driver: ['iavf', 'vfio-pci'] },
      { pfs: [{ pf: 'ens1f0' }], drivers: ['iavf', 'vfio-pci'] },
    ],
    [
      { devices: ['02:00.0', '0000:AF:00.0', '0000:02:00.0'], driver: 'e1000e' },
      { pfs: [], devices: ['0000:02:00.0', '0000:af:00.0'], drivers: ['e1000e'] },
    ],
  ])('%j', (config, pool) => expect(poolOf(config)).toEqual({ kind: 'pool', pool }));

  test.each([
    [{ pf: 'ens1f0#' }, '"pf": "ens1f0#"'],
    [{ pf: 'ens1f0#3-1' }, '"pf": "ens1f0#3-1"'],
    [{ pf: 'ens1f0#a' }, '"pf": "ens1f0#a"'],
    [{ pf: 'a/b' }, '"pf": "a/b"'],
    [{ pf: [] }, '"pf": []'],
    [{ pf: ['ens1f0', 'x#y'] }, '"pf": ["ens1f0","x#y"]'],
    [{ vf: 1 }, '"vf": 1 is not allowed: it needs "pf"'],
    [{ driver: 'iavf' }, '"driver": "iavf" is not allowed: it needs "pf"'],
    [{ pf: 'ens1f0', vf: -1 }, '"vf": -1'],
  ])('%j is refused', (config, text) => {
    expect(() => poolOf(config)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(text) as string }),
    );
  });

  test('a VF that a device plugin injected counts more', () => {
    expect(parse({ pf: 'ens1f0' }).device).toEqual({ kind: 'vf', pci: '0000:03:02.0' });
    expect(poolOf({ pf: 'ens1f0', runtimeConfig: { deviceID: '0000:03:02.5' } })).toEqual({
      kind: 'vf',
      pci: '0000:03:02.5',
    });
  });
});

describe('configurations of the ancestors mean what they meant', () => {
  const legacy = (config: object, cniArgs = '') =>
    parse({ cniVersion: undefined, deviceID: undefined, ...config }, cniArgs);

  test.each<[string, object, string, Partial<NetConf>]>([
    // Intel v0.x
    ['Intel: if0 is a pool', { if0: 'ens1f0', if0name: 'net0', vlan: 100 }, '', { device: { kind: 'pool', pool: { pfs: [{ pf: 'ens1f0' }] } }, podIfname: 'net0', settings: { vlan: { id: 100, qos: 0, proto: '802.1q' } } }], // prettier-ignore
    ['Intel: vlan 0 is none', { if0: 'ens1f0', vlan: 0 }, '', { settings: {} }],
    [
      'Intel: l2enable needs no addresses',
      { if0: 'ens1f0', l2enable: true, ipam: { type: 'host-local' } },
      '',
      { hasIpam: false },
    ],
    [
      'Intel: deviceid with vfid',
      { deviceid: '0000:03:02.1', vfid: 1 },
      '',
      { device: { kind: 'vf', pci: '0000:03:02.1' } },
    ],
    // Intel v1.0
    [
      'Intel: master',
      { master: 'ens1f0', vlan: 0 },
      '',
      { device: { kind: 'pool', pool: { pfs: [{ pf: 'ens1f0' }] } }, settings: {} },
    ],
    // hustcat
    ['hustcat: VF, VLAN and MAC of CNI_ARGS', { master: 'eth1' }, 'VF=2;VLAN=7;MAC=02:00:00:00:00:09;IP=10.0.0.5', { device: { kind: 'pool', pool: { pfs: [{ pf: 'eth1' }], index: 2 } }, settings: { mac: '02:00:00:00:00:09', vlan: { id: 7, qos: 0, proto: '802.1q' } } }], // prettier-ignore
    [
      'hustcat: VF 0 and VLAN 0 are not given',
      { master: 'eth1' },
      'VF=0;VLAN=0',
      { device: { kind: 'pool', pool: { pfs: [{ pf: 'eth1' }] } }, settings: {} },
    ],
    ['hustcat: pfOnly', { master: 'eth1', pfOnly: true }, '', { device: { kind: 'pf', pf: 'eth1' } }],
  ])('%s', (_, config, cniArgs, expected) => expect(legacy(config, cniArgs)).toMatchObject(expected));

  test('but their keys change no modern configuration', () => {
    const modern = parse({ vlan: 0, master: 'ens9', if0: 'ens9' });
    expect(modern).toEqual({ ...parse({ vlan: 0 }), notes: expect.any(Array) as string[] });
    expect(modern.settings.vlan).toEqual({ id: 0, qos: 0, proto: '802.1q' });
    expect(parse({ vlan: 100 }, 'VLAN=7;VF=1').settings.vlan?.id).toBe(100);
  });

  test('beside "deviceID" they choose no device either where an old key counts, and the log says so', () => {
    const conf = parse({ if0name: 'net5', vlan: 100, master: 'ens9', pfOnly: true, OrigVfState: {} });
    expect(conf).toMatchObject({
      device: parse({}).device,
      podIfname: 'net5',
      settings: { vlan: { id: 100 } },
    });
    expect(conf.notes).toEqual([
      '"master" has no meaning beside "deviceID" or "pf"',
      '"pfonly" has no meaning beside "deviceID" or "pf"',
      '"origvfstate" is not needed any more',
    ]);
  });

  test.each<[object, string, string]>([
    [{ if0: 'ens1f0', if0name: 'eth0' }, '', '"if0name": "eth0"'],
    [{ if0: 'ens1f0', if0name: 'a/b' }, '', '"if0name": "a/b"'],
    [{ master: 'eth1' }, 'VLAN=x', '"vlan": "x"'],
    [{ master: 'eth1' }, 'VF=-3', '"vf": -3'],
    [{ master: 'eth1', pfOnly: true, dpdk: true }, '', '"dpdk" takes a VF'],
    [{ master: 'eth1', pfOnly: true }, 'MAC=02:00:00:00:00:09', '"pfOnly": true'],
  ])('%j %s is refused', (config, cniArgs, text) => {
    expect(() => legacy(config, cniArgs)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(text) as string }),
    );
  });
});

describe("Intel's dpdk", () => {
  const intel = { kernel_driver: 'igbvf', dpdk_driver: 'vfio-pci', dpdk_tool: '/opt/dpdk-devbind.py' };

  test('means our driver; the rest is not needed, and the log says so', () => {
    const conf = parse({ dpdk: intel });
    expect(conf.dpdk).toEqual({ driver: 'vfio-pci' });
    expect(conf.notes).toEqual(['"dpdk.kernel_driver", "dpdk.dpdk_tool": not needed any more']);
  });

  test('works with the keys of its time', () => {
    expect(parse({ deviceID: undefined, if0: 'ens1f0', dpdk: intel })).toMatchObject({
      device: { kind: 'pool' },
      dpdk: { driver: 'vfio-pci' },
    });
  });

  test.each([
    [{ dpdk: { ...intel, dpdk_driver: 'vfio' } }, '"driver":"vfio"'],
    [{ dpdk: { ...intel, more: 1 } }, '"more":1'],
    [{ dpdk: { driver: 'uio' } }, 'vfio-pci, uio_pci_generic, igb_uio'],
    [{ dpdk: { drivr: 'vfio-pci' } }, '"drivr"'],
    [{ dpdk: 'vfio-pci' }, '"dpdk": "vfio-pci"'],
  ])('%j is refused', (config, text) => {
    expect(() => parse(config)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(text) as string }),
    );
  });
});

describe('runtimeConfig', () => {
  const bandwidth = (egressRate: number, rest: object = {}) =>
    parse({ runtimeConfig: { bandwidth: { egressRate, ...rest } }, ...rest });
  test('bandwidth limits what the pod sends, rounded up to Mbps; the smaller wish wins', () => {
    expect(bandwidth(1_000_001).maxTxRate).toBe(2);
    expect(bandwidth(50_000_000, { max_tx_rate: 10 }).maxTxRate).toBe(10);
    expect(bandwidth(5_000_000, { max_tx_rate: 10 }).maxTxRate).toBe(5);
    expect(bandwidth(5_000_000, { max_tx_rate: 0 }).maxTxRate).toBe(5); // 0: no limit
    expect(bandwidth(0, { max_tx_rate: 10 }).maxTxRate).toBe(10);
  });

  test('what the pod receives cannot be limited', () => {
    expect(parse({ runtimeConfig: { bandwidth: { ingressRate: 1000 } } }).warnings).toEqual([
      expect.stringContaining('ingressRate is ignored'),
    ]);
  });

  test('names the device-info file', () => {
    expect(
      parse({ runtimeConfig: { CNIDeviceInfoFile: '/var/run/k8s.cni.cncf.io/devinfo/cni/x' } })
        .deviceInfoFile,
    ).toBe('/var/run/k8s.cni.cncf.io/devinfo/cni/x');
  });

  test('of a wrong type is refused', () => {
    expect(() => parse({ runtimeConfig: { bandwidth: 5 } })).toThrow(
      expect.objectContaining({
        code: 7,
        message: expect.stringContaining('runtimeConfig.bandwidth has the wrong type') as string,
      }),
    );
  });
});

describe('the MAC', () => {
  const [runtime, args, config] = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'];
  test.each<[string, object, string, string | undefined]>([
    ['of the runtime counts most', { mac: config, runtimeConfig: { mac: runtime } }, `MAC=${args}`, runtime],
    ["of CNI_ARGS counts more than the network's", { mac: config }, `IgnoreUnknown=1;MAC=${args}`, args],
    [
      'of args counts more than that of CNI_ARGS',
      { args: { cni: { mac: runtime } } },
      `MAC=${args}`,
      runtime,
    ],
    ['of the network counts alone', { mac: config }, '', config],
    ['that the runtime leaves empty does not count', { mac: config, runtimeConfig: { mac: '' } }, '', config],
    ['can be absent', {}, '', undefined],
  ])('%s', (_, given, cniArgs, expected) => expect(parse(given, cniArgs).settings.mac).toBe(expected));
});

describe('CNI_ARGS', () => {
  test.each([
    'K8S_POD_NAME=p;K8S_POD_UID=u;IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_INFRA_CONTAINER_ID=c', // containerd
    'IgnoreUnknown=true;K8S_POD_NAMESPACE=x;K8S_POD_NAME=y;K8S_POD_UID=u;K8S_POD_UID=u;IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;IP=10.0.0.1/24', // Multus: twice
    'K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;FOO=bar=baz;IgnoreUnknown=true;',
  ])('name the pod: %s', (cniArgs) => expect(parse({}, cniArgs).pod).toBe('n/p'));

  test('with an unknown key need IgnoreUnknown', () => {
    expect(() => parse({}, 'FOO=1')).toThrow(
      expect.objectContaining({
        code: 4,
        message: 'Invalid CNI_ARGS: unknown keys FOO (IgnoreUnknown=1 lets them pass)',
      }),
    );
  });

  test('must be pairs', () => {
    expect(() => parse({}, 'IgnoreUnknown=1;FOO')).toThrow(expect.objectContaining({ code: 4 }));
  });
});

test('wantedSettings() leaves the rate that nobody asked for as it is', () => {
  const is = { rateMbps: { min: 10, max: 100 } };
  expect(wantedSettings(parse({ max_tx_rate: 50 }), is).rateMbps).toEqual({ min: 10, max: 50 });
  expect(wantedSettings(parse({ min_tx_rate: 0 }), {}).rateMbps).toEqual({ min: 0, max: 0 });
  expect(wantedSettings(parse({}), is).rateMbps).toBeUndefined();
});

test('logSettings() reads any configuration', () => {
  expect(logSettings({ logLevel: 'DEBUG', logFile: '/var/log/x', logFormat: 'json' })).toEqual({
    level: 'debug',
    format: 'json',
    file: '/var/log/x',
  });
  expect(logSettings({ loglevel: 'chatty', logFile: 5, logFormat: 'xml' })).toEqual({
    level: 'info',
    format: 'text',
    file: undefined,
  });
});
