import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';
import { parseOpenMetrics, type ReadFamily, valueOf } from '../support/open-metrics.ts';

let node: TestNode;

const ipam = hostLocal('10.1.0.0/24');
/** A name that no Kubernetes allows, but that any caller of a plugin can send. */
const nastyPod = 'web"} 1\\u';

/** Card 0: attached with traffic, attached, stale, on vfio-pci. Card 1: free. */
beforeAll(async () => {
  node = await TestNode.start({ pfs: 2, vfs: 4, disks: ['prometheus'] });
  await node.pods('a', 'b', 'gone');
  const args = (pod: string) => ({ args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod}` });
  await node.add('a', { deviceID: vfPci(0, 0), name: 'storage', ipam }, args('web-0'));
  await node.add('b', { deviceID: vfPci(0, 1), name: 'storage', ipam }, args(nastyPod));
  await node.add('gone', { deviceID: vfPci(0, 2) });
  await node.sh(`
    ip netns del gone
    modprobe vfio-pci
    cd /sys/bus/pci/devices/${vfPci(0, 3)}
    echo vfio-pci > driver_override; echo ${vfPci(0, 3)} > driver/unbind; echo ${vfPci(0, 3)} > /sys/bus/pci/drivers_probe`);
});
afterAll(() => node[Symbol.asyncDispose]());

const read = async () => parseOpenMetrics(`${await node.sh('sriov metrics')}\n`);

interface Stats {
  readonly rx: { bytes: number; packets: number; dropped: number };
  readonly tx: { bytes: number; packets: number; dropped: number };
}

/** As `ip` shows what a PF has counted for a VF. */
interface VfStats {
  readonly rx: { bytes: number; packets: number };
  readonly tx: { tx_packets: number };
}

/** What `ip -s` shows of a link. */
async function shown(ifname: string, netns: string): Promise<Stats> {
  const [link] = JSON.parse(await node.sh(`ip -n ${netns} -j -s link show ${ifname}`)) as {
    stats64: Stats;
  }[];
  if (!link) throw new Error(`no link ${ifname} in ${netns}`);
  return link.stats64;
}

test('states and owners are those of the node, whatever a pod is called', async () => {
  const families = await read();
  const states = families.find(({ name }) => name === 'sriov_pf_vfs')?.samples ?? [];
  const counts = (pci: string): Record<string, number> =>
    Object.fromEntries(
      states
        .filter(({ labels, value }) => labels['pci'] === pci && value > 0)
        .map(({ labels, value }) => [labels['state'] ?? '', value]),
    );
  expect(counts(pfPci(0))).toEqual({ attached: 2, stale: 1, dpdk: 1 });
  expect(counts(pfPci(1))).toEqual({ free: 4 });
  expect(valueOf(families, 'sriov_claims', { state: 'stale' })).toBe(1);
  const infos = families.find(({ name }) => name === 'sriov_vf_info')?.samples ?? [];
  expect(infos).toHaveLength(8);
  const [first, second] = infos;
  expect(first?.labels).toMatchObject({ pci: vfPci(0, 0), vf: '0', owner: 'shop/web-0', pod: 'web-0', namespace: 'shop', container: 'a', network: 'storage', interface: 'net1' }); // prettier-ignore
  expect(second?.labels).toMatchObject({ pod: nastyPod });
  const [claim] = JSON.parse(await node.sh(`sriov inspect ${vfPci(0, 1)} --json`)) as { claim: { times: object; since: string } }[]; // prettier-ignore
  for (const [phase, ms] of Object.entries(claim?.claim.times ?? {}))
    expect(valueOf(families, 'sriov_last_add_phase_seconds', { phase })).toBeCloseTo(
      (ms as number) / 1000,
      6,
    );
  const since = Date.parse(claim?.claim.since ?? '') / 1000;
  expect(valueOf(families, 'sriov_vf_since_timestamp_seconds', { vf: '1' })).toBe(since);
});

test("counters are the netdev's, also in a pod; igb counts nothing for its VFs, and no zero pretends that it does", async () => {
  const of = (families: ReadFamily[], name: string, index: number) =>
    valueOf(families, `sriov_vf_${name}_total`, { pci: vfPci(0, index), source: 'netdev' });
  const start = await read();
  const target = (await node.addresses('net1', 'b')).find(({ scope }) => scope === 'global')?.local ?? '';
  expect(await node.ping('a', target, 20)).toBe(20);
  const before = await shown('net1', 'a');
  const families = await read();
  const after = await shown('net1', 'a');
  for (const [name, direction, unit] of [
    ['receive_bytes', 'rx', 'bytes'],
    ['receive_packets', 'rx', 'packets'],
    ['transmit_bytes', 'tx', 'bytes'],
    ['transmit_packets', 'tx', 'packets'],
    ['receive_dropped_packets', 'rx', 'dropped'],
  ] as const) {
    expect(of(families, name, 0)).toBeGreaterThanOrEqual(before[direction][unit]);
    expect(of(families, name, 0)).toBeLessThanOrEqual(after[direction][unit]);
  }
  // 20 echo requests of 98 bytes and their answers.
  for (const direction of ['receive', 'transmit'])
    expect((of(families, `${direction}_bytes`, 0) ?? 0) - (of(start, `${direction}_bytes`, 0) ?? 0)).toBeGreaterThanOrEqual(20 * 98); // prettier-ignore
  expect(of(families, 'receive_bytes', 3)).toBeUndefined(); // on vfio-pci it has no netdev

  const pf = (await node.links()).find(({ parentdev }) => parentdev === pfPci(0))?.ifname;
  const [link] = JSON.parse(await node.sh(`ip -j -s link show ${pf}`)) as { vfinfo_list: { stats: VfStats }[] }[]; // prettier-ignore
  const ofPf = link?.vfinfo_list.map(({ stats: { rx, tx } }) => rx.packets + tx.tx_packets) ?? [];
  expect(ofPf).toHaveLength(4);
  const series = families.flatMap(({ samples }) => samples.filter(({ labels }) => labels['source'] === 'pf'));
  // Should a later igb count: the numbers must then be those of `ip`.
  if (ofPf.every((sum) => sum === 0)) expect(series).toEqual([]);
  else expect(valueOf(families, 'sriov_vf_receive_bytes_total', { pci: vfPci(0, 0), source: 'pf' })).toBe(link?.vfinfo_list[0]?.stats.rx.bytes); // prettier-ignore
});

const programs = '/opt/prometheus/usr/bin';

test('node_exporter collects every series, by the command of the systemd unit; promtool finds nothing to say', async () => {
  const unit = readFileSync('deploy/metrics/sriov-metrics.service', 'utf8');
  const command = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '';
  const folder = /--output (\S+)\/sriov\.prom$/.exec(command)?.[1] ?? '';
  const writable = /^ReadWritePaths=(.*)$/m.exec(unit)?.[1] ?? '';
  expect(writable).toBe(folder);
  const rights = (/^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1] ?? '')
    .replaceAll('CAP_', '+')
    .toLowerCase();
  // What systemd makes of ProtectSystem=strict, ReadWritePaths= and CapabilityBoundingSet=.
  await node.machine.write(
    '/strict.sh',
    `set -e
     mount --make-rprivate /
     mkdir -p ${folder}; chown 1000 ${folder}; mount --bind ${folder} ${folder}
     mount -o remount,ro,bind /var/lib/cni 2>/dev/null || { mount --bind /var/lib/cni /var/lib/cni; mount -o remount,ro,bind /var/lib/cni; }
     exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,${rights.replaceAll(' ', ',')} "$@"`,
  );
  await node.sh(`mkdir -p ${folder}; unshare -m bash /strict.sh ${command}`);
  const own = parseOpenMetrics(`${await node.sh(`cat ${folder}/sriov.prom`)}\n`);
  expect(own.find(({ name }) => name === 'sriov_vf_info')?.samples).toHaveLength(8);
  expect(
    valueOf(own, 'sriov_vf_receive_bytes_total', { pci: vfPci(0, 0), source: 'netdev' }),
  ).toBeGreaterThan(0);

  const page = await node.sh(`
    ${programs}/prometheus-node-exporter --collector.disable-defaults --collector.textfile \\
      --collector.textfile.directory=${folder} --web.disable-exporter-metrics --web.listen-address=127.0.0.1:9100 2>/tmp/exporter.log &
    get() { exec 3<>/dev/tcp/127.0.0.1/9100 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3; }
    for try in $(seq 100); do get 2>/dev/null && break; sleep 0.1; done
    kill $!
    cat /tmp/exporter.log >&2`);
  const collected = page.replaceAll('\r', '').split('\n');
  expect(collected).toContain('node_textfile_scrape_error 0');
  const ordered = (labels: Readonly<Record<string, string>>) => Object.entries(labels).sort();
  const theirs = collected
    .filter((line) => line.startsWith('sriov_'))
    .map((line) => {
      const [, name = '', labels = '', value = ''] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
      const text = (escaped: string) => escaped.replace(/\\(.)/g, '$1');
      return JSON.stringify([name, pairs.map(([, label, escaped = '']) => [label, text(escaped)]).sort(), Number(value)]); // prettier-ignore
    });
  const ours = own.flatMap(({ samples }) =>
    samples.map(({ name, labels, value }) => JSON.stringify([name, ordered(labels), value])),
  );
  expect(theirs.sort()).toEqual(ours.sort());

  // Prometheus' own parser of PromQL, and its advice on names.
  const dashboard = JSON.parse(readFileSync('deploy/metrics/dashboard.json', 'utf8')) as { panels: { targets: { expr: string }[] }[] }; // prettier-ignore
  const inDocs = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/^```promql\n([^]*?)^```/gm)];
  const queries = [
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '1m'))), // prettier-ignore
    ...inDocs.flatMap(([, block = '']) => block.trim().split('\n')),
  ];
  const rules = queries.map((expr, i) => ({ record: `query:${i}`, expr }));
  await node.machine.write('/rules.json', JSON.stringify({ groups: [{ name: 'all', rules }] }));
  expect(await node.sh(`${programs}/promtool check rules /rules.json`)).toContain(
    `${queries.length} rules found`,
  );
  const page2 = collected.filter((line) => /^# (HELP|TYPE) sriov_|^sriov_/.test(line)).join('\n');
  const advice = await node.machine.run(`${programs}/promtool check metrics`, { stdin: `${page2}\n` });
  expect(advice.stdout + advice.stderr).toBe('');
});

test('who reads the file while many write it sees all of it, always', async () => {
  const seen = await node.sh(`
    cd /tmp
    sriov metrics --output all.prom
    for writer in 1 2 3; do (for n in 1 2 3; do sriov metrics --output all.prom; done; touch done.$writer) & done
    until [ -e done.1 -a -e done.2 -a -e done.3 ]; do tail -n 1 all.prom; stat -c %a all.prom; done | sort -u
    wait
    ls -A | grep all.prom`);
  expect(seen.split('\n')).toEqual(['# EOF', '644', 'all.prom', 'all.prom.lock']);
});

// The image has the static executable; the other one needs a C library.
test.skipIf(process.env['ENGINE'] === 'node')(
  'the container of the DaemonSet does it with the mounts and rights that it has',
  async () => {
    const [manifest] = parseAllDocuments(readFileSync('deploy/metrics/daemonset.yaml', 'utf8')).map(
      (one) => one.toJS() as DaemonSet,
    );
    const { containers = [], volumes = [] } = manifest?.spec.template.spec ?? {};
    const [container] = containers;
    const pathOf = (volume: string) => volumes.find(({ name }) => name === volume)?.hostPath.path ?? '';
    const mounts = (container?.volumeMounts ?? []).map(
      ({ name, mountPath, readOnly }) =>
      `mkdir -p ${pathOf(name)} /root$0${mountPath}; mount --rbind ${pathOf(name)} /root$0${mountPath}${readOnly ? `; mount -o remount,ro,bind /root$0${mountPath}` : ''}`, // prettier-ignore
    );
    const rights = container?.securityContext.capabilities.add.map((name) => `+${name.toLowerCase()}`) ?? [];
    await node.machine.write(
      '/container.sh',
      `set -e
     mount --make-rprivate /
     mkdir -p /root$0; mount -t tmpfs none /root$0
     mkdir -p /root$0/{proc,sys,bin,tmp}
     mount --bind /proc /root$0/proc; mount --bind /sys /root$0/sys; mount -o remount,ro,bind /root$0/sys
     cp -L /opt/cni/bin/sriov /root$0/sriov
     ${mounts.join('\n')}
     exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,${rights.join(',')} \\
       chroot /root$0 /sriov metrics --output /textfile/sriov.prom`.replaceAll('$0', 'fs'),
    );
    await node.sh('rm -f /var/lib/prometheus/node-exporter/sriov.prom; unshare -m bash /container.sh');
    const text = await node.sh('cat /var/lib/prometheus/node-exporter/sriov.prom');
    const families = parseOpenMetrics(`${text}\n`);
    const states = families.find(({ name }) => name === 'sriov_vf_info')?.samples.map(({ labels }) => labels['state']); // prettier-ignore
    expect(states).toEqual(['attached', 'attached', 'stale', 'dpdk', 'free', 'free', 'free', 'free']);
    expect(
      valueOf(families, 'sriov_vf_receive_bytes_total', { pci: vfPci(0, 0), source: 'netdev' }),
    ).toBeGreaterThan(0);
  },
);

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: {
          readonly volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
          readonly securityContext: { capabilities: { add: string[] } };
        }[];
        readonly volumes: { name: string; hostPath: { path: string } }[];
      };
    };
  };
}
