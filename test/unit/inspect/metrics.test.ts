import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { familiesOf, type Measured, readCounters } from '../../../src/inspect/metrics.ts';
import { formatMetrics } from '../../../src/inspect/open-metrics.ts';
import type { Device } from '../../../src/inspect/device.ts';
import { IFF_UP, type Link } from '../../../src/kernel/link-message.ts';
import type { PodClaim } from '../../../src/vf/claim.ts';
import { parseOpenMetrics, type ReadFamily, valueOf } from '../../support/open-metrics.ts';
import { type KnownMetrics, labelsOfQuery } from '../../support/promql.ts';
import { seed, seeded } from '../../support/random.ts';

const pf = { pci: '0000:03:00.0', ifname: 'ens1', driver: 'ice', numVfs: 4, totalVfs: 64 };
const link = (flags: number) => ({ ifname: 'x', ifindex: 1, flags, altnames: [] }) as unknown as Link;

const nothing = { why: undefined, owner: undefined, since: undefined, link: undefined, netns: '', rdma: undefined, settings: undefined, claim: undefined, before: undefined, holders: [] }; // prettier-ignore
const aPf: Device = {
  ...nothing,
  vf: { pci: pf.pci, pf, index: -1, driver: 'ice', ifnames: ['ens1'] },
  isPf: true,
  state: 'up',
  link: link(IFF_UP),
};

function aVf(index: number, more: Partial<Device> = {}): Device {
  const vf = { pci: `0000:03:10.${index}`, pf, index, driver: 'iavf', ifnames: [] };
  return { ...nothing, vf, isPf: false, state: 'free', ...more };
}

const claim = { times: { device: 120.5, ipam: 3 } } as unknown as PodClaim;
const ofPod = (pod: string | undefined, network = 'storage') => ({
  pod,
  containerId: 'c1',
  ifname: 'net1',
  network,
  netns: '/run/netns/x',
  by: 'sriov' as const,
});
const attached = (index: number, owner: Device['owner'], since = '2026-11-25T01:00:00.500Z') =>
  aVf(index, { state: 'attached', owner, since, claim });

const print = (measured: readonly Measured[], leases = 0) => formatMetrics(familiesOf(measured, leases));
const silent = (device: Device): Measured => ({ device, counters: {} });
const read = (...args: Parameters<typeof print>) => parseOpenMetrics(print(...args));

/** Every metric with a series. */
const everything: readonly Measured[] = [
  silent(aPf),
  {
    device: attached(0, ofPod('shop/web-0')),
    counters: {
      pf: { rxPackets: 1, txPackets: 2, rxBytes: 3, txBytes: 4, rxDropped: 5, txDropped: 6, broadcast: 7, multicast: 8 }, // prettier-ignore
      netdev: { rxPackets: 1, txPackets: 2, rxBytes: 3, txBytes: 4, rxDropped: 5, txDropped: 6, rxErrors: 7, txErrors: 8, multicast: 9 }, // prettier-ignore
    },
  },
  silent(aVf(1)),
  silent(aVf(2, { state: 'stale', claim, owner: ofPod('shop/web-1'), since: '2026-11-24T01:00:00Z' })),
];

describe('sriov metrics', () => {
  test('is OpenMetrics text, to the letter', () => {
    const text = print(everything, 2);
    expect(text).toMatch(/^# TYPE sriov_pf_info gauge\n# HELP sriov_pf_info /);
    expect(text).toContain(
      '# TYPE sriov_vf_receive_bytes counter\n# UNIT sriov_vf_receive_bytes bytes\n# HELP sriov_vf_receive_bytes Bytes that the VF received.\n' +
        'sriov_vf_receive_bytes_total{pf="ens1",vf="0",pci="0000:03:10.0",source="pf"} 3\n',
    );
    const families = parseOpenMetrics(text);
    for (const { name, help, samples } of families) {
      expect(name).toMatch(/^sriov_/);
      expect(help, name).toMatch(/\.$/);
      expect(samples.length, name).toBeGreaterThan(0);
    }
  });

  test('has only types that the textfile collector of node_exporter takes', () => {
    expect(new Set(read(everything).map(({ type }) => type))).toEqual(new Set(['gauge', 'counter']));
  });

  test('tells who has a VF', () => {
    const families = read(everything);
    const { labels } = families.find(({ name }) => name === 'sriov_vf_info')?.samples[0] ?? {};
    expect(labels).toEqual({
      ...{ pf: 'ens1', vf: '0', pci: '0000:03:10.0', driver: 'iavf', state: 'attached' },
      ...{ owner: 'shop/web-0', namespace: 'shop', pod: 'web-0', container: 'c1', interface: 'net1' },
      network: 'storage',
    });
    expect(valueOf(families, 'sriov_vf_since_timestamp_seconds', { vf: '0' })).toBe(
      Date.parse('2026-11-25T01:00:00.500Z') / 1000,
    );
  });

  test.each<[string, Device['owner'], object]>([
    ['no owner', undefined, { owner: '', namespace: '', pod: '', container: '', network: '' }],
    ['a container without a pod', ofPod(undefined), { owner: 'c1', namespace: '', pod: '', container: 'c1' }],
    [
      'a container with a name',
      { ...ofPod(undefined), containerName: 'db' },
      { owner: 'db', container: 'db' },
    ],
    [
      "an endpoint of Docker's",
      { ...ofPod(undefined), containerId: undefined, endpointId: 'e1' },
      { owner: 'e1', container: '' },
    ],
    ['a pod without a namespace', ofPod('/web'), { namespace: '', pod: 'web' }],
    ['a name with slashes', ofPod('a/b/c'), { namespace: 'a', pod: 'b/c' }],
    ['a name without one', ofPod('web'), { namespace: '', pod: 'web' }],
  ])('labels of %s', (_, owner, labels) => {
    const [info] = read([silent(aVf(0, { owner }))]).filter(({ name }) => name === 'sriov_vf_info');
    expect(info?.samples[0]?.labels).toMatchObject(labels);
  });

  test('counts VFs by state: each state of each PF has a series, whether a VF is in it or not', () => {
    const families = read(everything);
    const counts = families.find(({ name }) => name === 'sriov_pf_vfs')?.samples ?? [];
    expect(Object.fromEntries(counts.map(({ labels, value }) => [labels['state'], value]))).toEqual({
      ...{ free: 1, attached: 1, busy: 0, stale: 1, held: 0, dpdk: 0, foreign: 0 },
      ...{ unbound: 0, unreadable: 0, gone: 0 },
    });
    expect(valueOf(families, 'sriov_claims', { state: 'stale' })).toBe(1);
    expect(valueOf(families, 'sriov_pf_up')).toBe(1);
    expect(valueOf(families, 'sriov_pf_vfs_limit')).toBe(64);
    expect(valueOf(read([], 3), 'sriov_leases')).toBe(3);
  });

  test('the phases are those of the latest ADD whose VF is attached', () => {
    const later = { ...attached(1, ofPod('a/b'), '2026-11-25T02:00:00Z'), claim: { times: { ipam: 9 } } };
    const families = read([silent(attached(0, ofPod('a/c'))), silent(later as unknown as Device)]);
    const phases = families.find(({ name }) => name === 'sriov_last_add_phase_seconds')?.samples;
    expect(phases?.map(({ labels, value }) => [labels['phase'], value])).toEqual([['ipam', 0.009]]);
    expect(read([silent(aVf(0))]).some(({ name }) => name.includes('last_add'))).toBe(false);
  });

  test('a host without a PF has no series of one', () => {
    expect(print([])).not.toContain('sriov_pf');
    expect(parseOpenMetrics(print([])).length).toBeGreaterThan(0);
  });

  test('a claim whose times are wrong costs neither the others nor the format', () => {
    const odd = aVf(0, { state: 'gone', since: 'yesterday', claim });
    expect(read([silent(odd)]).some(({ name }) => name.includes('since'))).toBe(false);
  });

  // Pods choose their names; a runtime by hand may send any bytes.
  test('no name makes another line, label or value of itself', () => {
    const random = seeded(seed);
    const nasty = ['"', '\\', '\n', '\r', '}', '{', ',', '=', '#', ' ', '\0', '\x1b[31m', '\u2028', '\u202e', '\ud800', '\udc00', '😀', 'é', '\\n', '\\"', '# EOF\n', '} 1\n', 'a']; // prettier-ignore
    const text = () => Array.from({ length: random.below(12) }, () => random.pick(nasty)).join('');
    for (let i = 0; i < 3000; i++) {
      const pod = `${text()}/${text()}`;
      const network = random.chance(0.02) ? text().repeat(400) : text();
      const output = print([silent(aPf), silent(attached(0, ofPod(pod, network)))]);
      expect(Buffer.from(output).toString()).toBe(output); // UTF-8 has no halves of characters
      expect(output).not.toMatch(/[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
      const families = parseOpenMetrics(output);
      const info = families.find(({ name }) => name === 'sriov_vf_info')?.samples;
      expect(info).toHaveLength(1);
      expect(info?.[0]?.labels).toMatchObject({ pf: 'ens1', vf: '0', state: 'attached', interface: 'net1' });
      expect(info?.[0]?.labels['network']?.length).toBeLessThan(256 * 12);
    }
  });

  test('a name is what it was, apart from what would move a cursor', () => {
    const [info] = read([silent(aVf(0, { owner: ofPod('n/a "b" \\ c\nd é 😀') }))]).filter(
      ({ name }) => name === 'sriov_vf_info',
    );
    expect(info?.samples[0]?.labels['pod']).toBe('a "b" \\ c\\u000ad é 😀');
  });
});

describe('counters of a PF', () => {
  const u64 = (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  const attribute = (type: number, payload: Buffer) => {
    const header = Buffer.alloc(4);
    header.writeUInt16LE(4 + payload.length);
    header.writeUInt16LE(type, 2);
    return Buffer.concat([header, payload]);
  };
  /** IFLA_VF_INFO with IFLA_VF_MAC and IFLA_VF_STATS, laid out by hand after uapi/linux/if_link.h. */
  const entry = (index: number, values: readonly bigint[]) => {
    const mac = Buffer.alloc(36);
    mac.writeUInt32LE(index);
    const [rx = 0n, tx = 0n, rxBytes = 0n, txBytes = 0n, broadcast = 0n, multicast = 0n, rxDropped = 0n, txDropped = 0n] = values; // prettier-ignore
    const stats = [rx, tx, rxBytes, txBytes, broadcast, multicast].map((value, type) => attribute(type, u64(value))); // prettier-ignore
    stats.push(attribute(7, u64(rxDropped)), attribute(8, u64(txDropped)));
    return Buffer.concat([attribute(1, mac), attribute(8, Buffer.concat(stats))]);
  };
  const counters = (...vfs: Link['vfs'] & object) => readCounters({ vfs } as unknown as Link);

  test('are found by the number of the VF', () => {
    const found = counters(entry(3, [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]), entry(0, []));
    expect(found.get(3)).toEqual({
      ...{ rxPackets: 1, txPackets: 2, rxBytes: 3, txBytes: 4 },
      ...{ broadcast: 5, multicast: 6, rxDropped: 7, txDropped: 8 },
    });
    expect(found.get(0)?.rxBytes).toBe(0);
    expect(found.get(1)).toBeUndefined();
  });

  test('beyond 32 bits, and to what a float of Prometheus can hold', () => {
    const found = counters(entry(0, [2n ** 32n + 5n, 2n ** 53n - 1n, 2n ** 64n - 1n]));
    expect(found.get(0)).toMatchObject({
      rxPackets: 2 ** 32 + 5,
      txPackets: 2 ** 53 - 1,
      rxBytes: 2 ** 64,
    });
  });

  test('that are all zero are none: igb and others do not count, and the kernel says zero for them', () => {
    expect(counters(entry(0, []), entry(1, [])).size).toBe(0);
    expect(readCounters({ vfs: undefined } as unknown as Link).size).toBe(0);
  });
});

describe('the dashboard', () => {
  const dashboard = JSON.parse(readFileSync('deploy/metrics/dashboard.json', 'utf8')) as {
    panels: { id: number; title: string; targets: { expr: string; legendFormat: string }[] }[];
    templating: { list: { name: string; definition?: string }[] };
  };
  const families: readonly ReadFamily[] = read(everything, 1);
  // Prometheus adds the first two.
  const known: KnownMetrics = new Map([
    ...families.flatMap(({ samples }) =>
      samples.map(
        ({ name, labels }) => [name, new Set(['instance', 'job', ...Object.keys(labels)])] as const,
      ),
    ),
    ['node_textfile_mtime_seconds', new Set(['instance', 'job', 'file'])],
  ]);
  const variables = dashboard.templating.list.map(({ name }) => name);
  /** A query as Grafana sends it. */
  const sent = (expr: string) =>
    expr
      .replaceAll('$__rate_interval', '1m')
      .replaceAll(/\$(\w+)/g, (_, name: string) => (variables.includes(name) ? 'x' : `$${name}`));
  const targets = dashboard.panels.flatMap(({ title, targets }) =>
    targets.map(({ expr, legendFormat }) => [title, expr, legendFormat] as const),
  );

  test.each(targets)('%s: %s', (_, expr, legend) => {
    expect(sent(expr)).not.toContain('$');
    const labels = labelsOfQuery(sent(expr), known);
    const shown = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label);
    expect(shown.filter((label) => !labels.has(label))).toEqual([]);
  });

  test('its variables are asked of what is there', () => {
    const queries = dashboard.templating.list.flatMap(({ definition }) => definition ?? []);
    expect(queries.length).toBeGreaterThan(0);
    for (const query of queries) {
      const [, selector = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(query) ?? [];
      expect([...labelsOfQuery(sent(selector), known)]).toContain(label);
    }
  });

  test('its panels have an id each', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });

  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^```promql\n([^]*?)^```/gm)];
  test.each(documented.flatMap(([, block = '']) => block.trim().split('\n')))(
    'docs/metrics.md: %s',
    (line) => {
      expect(() => labelsOfQuery(line, known)).not.toThrow();
    },
  );

  test('docs/metrics.md has every metric, and no other', () => {
    const rows = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^\| `(sriov_\w+)` \|/gm)];
    const names = families.flatMap(({ samples }) => samples.map(({ name }) => name));
    expect(rows.map(([, name]) => name)).toEqual([...new Set(names)]);
  });

  test.each([
    ['sum by (pood) (sriov_pf_vfs)', 'no label "pood"'],
    ['sriov_pf_vf', 'no metric "sriov_pf_vf"'],
    ['sriov_pf_vfs{stat="free"}', 'no label "stat"'],
    ['rate(sriov_vf_receive_bytes_total)', 'rate() of a instant'],
    ['sum(sriov_vf_receive_bytes_total[5m])', 'a range where an instant'],
    ['sum by (pf) (sriov_pf_vfs) * on (pci) sriov_pf_vfs', 'no label "pci"'],
    ['sriov_vf_receive_bytes_total * on (pci) group_left (podd) sriov_vf_info', 'no label "podd"'],
    ['sum(sriov_pf_vfs', '")" expected'],
    ['sriov_pf_vfs sriov_pf_vfs', 'too much'],
    ['sriov_pf_vfs{state=free}', 'a string expected'],
    ['sriov_pf_vfs[5m]', 'a range where an instant'],
    ['sum(sriov_pf_vfs) $', 'cannot read'],
  ])('a wrong query is seen: %s', (query, problem) => {
    expect(() => labelsOfQuery(query, known)).toThrow(problem);
  });
});

describe('the reader that judges', () => {
  test.each([
    ['# TYPE a gauge\na 1\n', '# EOF is missing'],
    ['# TYPE a gauge\na 1\n# EOF', 'does not end'],
    ['# TYPE a gauge\na 1\n# EOF\na 2\n# EOF\n', 'something follows'],
    ['a 1\n# EOF\n', 'without a family'],
    ['# TYPE a counter\na 1\n# EOF\n', 'is no sample of counter'],
    ['# TYPE a_total counter\na_total 1\n# EOF\n', 'must not end with _total'],
    ['# TYPE a gauge\n# UNIT a bytes\n# EOF\n', 'does not end with _bytes'],
    ['# TYPE a gauge\na{b="c} 1\n# EOF\n', 'does not end'],
    ['# TYPE a gauge\na{b="\\u001b"} 1\n# EOF\n', 'is no escape'],
    ['# TYPE a gauge\na{b="c",b="d"} 1\n# EOF\n', 'stands twice'],
    ['# TYPE a gauge\na 1\na 2\n# EOF\n', 'stands twice'],
    ['# TYPE a gauge\na 1\n# HELP a x.\n# EOF\n', 'after its samples'],
    ['# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF\n', 'taken up again'],
    ['# TYPE a gauge\na one\n# EOF\n', 'is no number'],
    ['# TYPE a gauge\na  1\n# EOF\n', 'no value'],
    ['# TYPE a counter\na_total -1\n# EOF\n', 'below zero'],
    ['# TYPE a gauge\n\na 1\n# EOF\n', 'neither'],
  ])('%j is refused: %s', (text, problem) => {
    expect(() => parseOpenMetrics(text)).toThrow(problem);
  });
});
