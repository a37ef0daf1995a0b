import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { DockerNode, type DockerRelease } from './docker.ts';
import { fiveMinutes } from './five-minutes.ts';
import { difference, pfPci, type ShownLink, type TestNode, vfPci } from './node.ts';
import { isSoak } from './random.ts';

const vfs = 3;
const mac = '02:00:00:00:20:07';

/** What a dockerd and our driver must do together, the same for every generation: one machine, the cases one after the other. */
export function dockerCases(release: DockerRelease): void {
  // Each starts several containers, at some seconds each where the machine is emulated, and at ten times that where it is busy.
  vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });
  // What the generations have in common the newest one shows.
  const once = test.runIf(release === 'sid' || isSoak);
  // Where dockerd or the machine starts again, which takes most of a minute.
  const rarely = test.runIf(isSoak);
  let docker: DockerNode;
  let node: TestNode;
  let pristine: unknown;
  beforeAll(async () => {
    docker = await DockerNode.start(release, { vfs });
    node = docker.node;
    await docker.network('fast', '--subnet 10.9.0.0/24 -o vlan=100');
    // In the words of Mellanox's plugin.
    await node.sh(`docker network create -d sriov --subnet 10.8.0.0/24 -o netdevice=${pfPci(0)} -o mode=sriov \\
      -o privileged=1 -o max_tx_rate=100 slow`);
    pristine = await node.state();
  });
  // A test that failed leaves nothing to the next one.
  afterEach(async ({ task }) => {
    if (task.result?.state !== 'fail') return;
    await docker.revive();
    await node.sh(`docker rm -f $(docker ps -aq) > /dev/null 2>&1 || true
      for network in $(docker network ls -f driver=sriov --format '{{.Name}}' | grep -vx 'fast\\|slow'); do
        docker network rm $network
      done`);
  });
  afterAll(() => docker[Symbol.asyncDispose]());

  /** Nothing left behind, at once or, where nobody told the driver, as soon as it has found out. */
  async function expectPristine(timeoutMs = 20_000): Promise<void> {
    const now = async () => difference(pristine, await node.state());
    try {
      await expect.poll(now, { timeout: timeoutMs, interval: 500 }).toBe('');
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${await docker.logs()}`, { cause: error });
    }
  }

  /** igbvf sees its carrier up to two seconds after Docker has brought the link up. */
  const expectPing = (from: string, to: string) =>
    expect.poll(() => docker.ping(from, to), { timeout: 30_000, interval: 500 }).toBe(3);

  const list = () => node.sh('/opt/cni/bin/sriov list');
  /** The driver learns a container's name when Docker knows it: some seconds after the start. */
  const untilListed = (pattern: RegExp) =>
    expect.poll(list, { timeout: 120_000, interval: 1000 }).toMatch(pattern);
  const countIn = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].length;

  /** The VFs in a namespace. */
  async function vfsIn(netns: string): Promise<ShownLink[]> {
    return (await node.links(netns)).filter(({ parentdev }) => parentdev !== undefined);
  }

  async function rates(): Promise<number[]> {
    const shown = await Promise.all(Array.from({ length: vfs }, (_, index) => node.vf(0, index)));
    return shown
      .map(({ rate }) => rate.max_tx)
      .filter((mbps) => mbps > 0)
      .sort((a, b) => a - b);
  }

  test('network create refuses what makes no sense or cannot work here', async () => {
    const refused = async (options: string) => {
      const { code, stderr } = await node.machine.run(`docker network create -d sriov ${options} bad`);
      expect(code).not.toBe(0);
      return stderr;
    };
    expect(await refused('-o pf=x -o vlan=5000')).toContain('"vlan": "5000" is not allowed');
    expect(await refused('-o pf=nosuch')).toContain('Cannot find PF "nosuch"');
    expect(await refused('')).toContain('names no device');
    expect(await refused(`-o pf=${pfPci(0)} -o vlna=1`)).toContain('vlna');
    expect(await refused(`-o pf=${pfPci(0)} -o mtu=65535`)).toMatch(/mtu/i);
  });

  test('two containers on a VLAN, one with a MAC: ping; stop, start, a killed process, rm -f', async () => {
    await docker.run('aa', `--network fast --mac-address ${mac} --ip 10.9.0.7`);
    await docker.run('bb', '--network fast');
    expect(await docker.inNetwork('aa', 'fast')).toMatchObject({
      IPAddress: '10.9.0.7',
      MacAddress: mac,
      Gateway: '10.9.0.1',
    });
    const [a, b] = [await docker.netns('aa'), await docker.netns('bb')];
    expect(await node.link('eth0', a)).toMatchObject({ address: mac, parentdev: vfPci(0, 0) });
    await expectPing(b, '10.9.0.7');
    // What Kata looks for: a link with a PCI function behind it, whose MAC is the one that the PF has for it.
    for (const [index, netns] of [a, b].entries()) {
      expect(await node.sh(docker.inside(netns, 'ethtool -i eth0'))).toContain(
        `bus-info: ${vfPci(0, index)}`,
      );
      const { address, vlan_list } = await node.vf(0, index);
      expect(address).toBe((await node.link('eth0', netns)).address);
      expect(vlan_list).toMatchObject([{ vlan: 100 }]);
    }
    await untilListed(/container aa \(fast\)/);
    expect(await node.sh('/opt/cni/bin/sriov inspect aa')).toContain(mac);

    await node.sh('docker stop -t 0 aa');
    expect((await node.vf(0, 0)).vlan_list[0]?.vlan).toBeUndefined();
    await node.sh('docker start aa');
    await expectPing(b, '10.9.0.7');
    await node.sh(`kill -9 ${await docker.pid('bb')}`);
    await expect
      .poll(async () => countIn(await list(), / free /g), { timeout: 30_000, interval: 1000 })
      .toBe(2);
    await docker.remove('aa', 'bb');
    await expectPristine();
  });

  once(
    'three VFs in one container, all that there are; one is disconnected after the container has changed it, and connected',
    async () => {
      await node.sh(
        `docker network create -d sriov --internal --subnet 10.7.0.0/24 -o parent=${pfPci(0)} -o mtu=2000 wide`,
      );
      await docker.run('aa', '--network fast');
      await node.sh('docker network connect slow aa; docker network connect wide aa');
      const a = await docker.netns('aa');
      const links = await vfsIn(a);
      expect(links.map(({ parentdev }) => parentdev).sort()).toEqual(
        [0, 1, 2].map((index) => vfPci(0, index)),
      );
      expect(links.map(({ mtu }) => mtu).sort()).toEqual([1500, 1500, 2000]);
      expect(await rates()).toEqual([100]);
      const trusted = await Promise.all([0, 1, 2].map((index) => node.vf(0, index)));
      expect(trusted.filter(({ trust, spoofchk }) => trust && !spoofchk)).toHaveLength(1);

      await untilListed(/container aa .*\n.*container aa .*\n.*container aa /);
      const { code, stderr } = await docker.tryRun('bb', '--network fast');
      expect(code).not.toBe(0);
      expect(stderr).toMatch(/No VF of 0000:01:00\.0 is free: all 3 are in use .*container aa/);
      await docker.remove('bb');

      await node.sh(`for link in eth0 eth1 eth2; do ip -n ${a} link set $link mtu 1400; ip -n ${a} link set $link promisc on; done
      docker network disconnect slow aa`);
      expect(await rates()).toEqual([]);
      expect(await vfsIn(a)).toHaveLength(2);
      await node.sh('docker network connect --driver-opt max_tx_rate=50 slow aa');
      expect(await vfsIn(a)).toHaveLength(3);
      expect(await rates()).toEqual([50]);
      await docker.remove('aa');
      await node.sh('docker network rm wide');
      await expectPristine();
    },
  );

  once(
    'networks of the plugins that people come from: of Mellanox’s go on, others say what to do',
    async () => {
      const id = await node.sh("docker network inspect -f '{{.Id}}' slow");
      const ours = `/var/lib/cni/sriov/networks/${id}.json`;
      const theirs = `/etc/docker/mellanox/docker-sriov-plugin/${id}`;
      await node.sh(`mv ${ours} /run/slow.json`);
      const { code, stderr } = await docker.tryRun('aa', '--network slow');
      expect(code).not.toBe(0);
      expect(stderr).toMatch(/was made by another plugin.*docker network rm/);
      await docker.remove('aa');

      const config = {
        Version: 0,
        Netdevice: pfPci(0),
        Mode: 'sriov',
        Subnet: '',
        Gateway: '10.8.0.1/24',
        vlan: 8,
      };
      await node.sh(`mkdir -p ${theirs}`);
      await node.machine.write(`${theirs}/config.json`, JSON.stringify({ ...config, Privileged: true }));
      await docker.run('aa', '--network slow');
      const [link] = await vfsIn(await docker.netns('aa'));
      expect(link?.parentdev).toBe(vfPci(0, 0));
      expect(await node.vf(0, 0)).toMatchObject({ vlan_list: [{ vlan: 8 }], trust: true, spoofchk: false });
      await docker.remove('aa');
      await node.sh(`rm -r /etc/docker/mellanox; mv /run/slow.json ${ours}`);
      await expectPristine();
    },
  );

  rarely(
    'two families; --internal and gateway=none have no default route and no second interface',
    async () => {
      await docker.network('both', '--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64');
      await docker.network('inside', '--internal --subnet 10.6.0.0/24');
      await docker.network('nogate', '--subnet 10.5.0.0/24 -o gateway=none');
      await docker.run('aa', '--network both');
      await docker.run('bb', '--network both');
      const [a, b] = [await docker.netns('aa'), await docker.netns('bb')];
      const { IPAddress, GlobalIPv6Address } = await docker.inNetwork('aa', 'both');
      await expectPing(b, IPAddress);
      await expectPing(b, GlobalIPv6Address);
      expect(await node.sh(`ip -n ${a} route; ip -n ${a} -6 route`)).toMatch(
        /default via 10\.7\.0\.1 dev eth0[^]*default via fd00:7::1 dev eth0/,
      );
      await docker.remove('aa', 'bb');
      for (const network of ['inside', 'nogate']) {
        await docker.run(network, `--network ${network}`);
        const netns = await docker.netns(network);
        expect(await node.sh(`ip -n ${netns} -4 route`)).not.toContain('default');
        expect((await node.links(netns)).map(({ ifname }) => ifname)).toEqual(['lo', 'eth0']);
      }
      await docker.remove('inside', 'nogate');
      await node.sh('docker network rm both inside nogate');
      await expectPristine();
    },
  );

  once('the driver killed: between two calls, inside CreateEndpoint, inside DeleteEndpoint', async () => {
    await docker.run('aa', '--network fast');
    await docker.killDriver();
    await docker.remove('aa');
    await expectPristine();
    /** Kills the driver when a file of a claim is there, and has this in it. */
    const killAt = (content: string) =>
      node.sh(`for ((tries = 0; tries < 100000; tries++)); do
          claims=(/var/lib/cni/sriov/claims/*.json)
          [[ -e $claims && $(< $claims) == *${content}* ]] && kill -9 $(cat /run/driver.pid) && exit
        done; exit 1`);
    const inCreate = killAt('adding');
    const { code, stderr } = await docker.tryRun('bb', `--network fast --mac-address ${mac}`);
    await inCreate;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/repeats a call whose answer it did not get/);
    await docker.remove('bb');
    await expectPristine();
    await docker.run('cc', `--network fast --mac-address ${mac}`);
    const inDelete = killAt('releasing');
    await docker.remove('cc');
    await inDelete;
    await expectPristine();
  });

  once(
    'dockerd killed: its containers are gone at its next start, the one that restarts has one VF',
    async () => {
      await docker.run('aa', '--network fast');
      await docker.run('bb', '--network fast --restart always');
      await docker.killDaemon();
      await docker.startDaemon();
      await untilListed(/container bb/);
      await expect
        .poll(async () => countIn(await list(), / free /g), { timeout: 90_000, interval: 1000 })
        .toBe(2);
      expect(await vfsIn(await docker.netns('bb'))).toHaveLength(1);
      await docker.remove('aa', 'bb');
      await expectPristine();
    },
  );

  rarely(
    'dockerd killed with live-restore: containers keep their VFs; one that died meanwhile gives its VF back',
    async () => {
      await docker.liveRestore(true);
      await docker.run('aa', '--network fast');
      await docker.run('bb', '--network fast');
      const [a, b] = [await docker.netns('aa'), await docker.netns('bb')];
      const { IPAddress } = await docker.inNetwork('aa', 'fast');
      const pid = await docker.pid('bb');
      await docker.killDaemon();
      await expectPing(b, IPAddress);
      await node.sh(`/opt/cni/bin/sriov gc; kill -9 ${pid}`);
      await docker.startDaemon();
      expect(await vfsIn(a)).toHaveLength(1);
      // Docker 20.10 tells the driver of its start only when it needs it.
      await docker.run('cc', '--network fast');
      await expect
        .poll(async () => countIn(await list(), / free /g), { timeout: 90_000, interval: 1000 })
        .toBe(1);
      // From the new one: it may have the address of the dead one, and before Docker 28 nobody tells the neighbours.
      await expectPing(await docker.netns('cc'), IPAddress);
      await docker.remove('aa', 'bb', 'cc');
      await docker.liveRestore(false);
      await expectPristine();
    },
  );

  once('between Leave and DeleteEndpoint Docker takes the VF back, and nobody else', async () => {
    await docker.run('aa', '--network fast');
    const phase = (from: string, to: string) =>
      node.sh(`sed -i 's/"phase": "${from}"/"phase": "${to}"/' /var/lib/cni/sriov/claims/*.json`);
    await phase('joined', 'leaving');
    expect(await node.sh('/opt/cni/bin/sriov gc')).toContain('left alone');
    expect(await vfsIn(await docker.netns('aa'))).toHaveLength(1);
    await phase('leaving', 'joined');
    await docker.remove('aa');
    await expectPristine();
  });

  once('a VF that Kata left on vfio-pci is back on its own driver', async () => {
    await docker.run('aa', '--network fast');
    const [vf] = await vfsIn(await docker.netns('aa'));
    await node.sh(`modprobe vfio-pci
      device=/sys/bus/pci/devices/${vf?.parentdev}
      echo vfio-pci > $device/driver_override
      echo ${vf?.parentdev} > $device/driver/unbind
      echo ${vf?.parentdev} > /sys/bus/pci/drivers_probe
      [[ $(readlink $device/driver) == */vfio-pci ]]`);
    await docker.remove('aa');
    await expectPristine();
  });

  once('dpdk=true: the container has the device and no interface', async () => {
    await node.sh('modprobe vfio-pci');
    await docker.network('user', '--subnet 10.4.0.0/24 -o vf=1 -o dpdk=true');
    const group = await node.sh(`basename $(readlink /sys/bus/pci/devices/${vfPci(0, 1)}/iommu_group)`);
    // Docker 28 looks for devices before it asks the driver, which only then makes this one: there the folder must do.
    const devices = {
      bookworm: `--device /dev/vfio/vfio --device /dev/vfio/${group}`,
      sid: `-v /dev/vfio:/dev/vfio --device-cgroup-rule 'c 10:196 rwm' \\
        --device-cgroup-rule "c $(awk '$2 == "vfio" { print $1 }' /proc/devices):* rwm"`,
    };
    await docker.run('aa', `--network user ${devices[release]}`);
    const open = (path: string) => node.sh(`docker exec aa /bin/busybox sh -c 'exec 3<> ${path}'`);
    await open(`/dev/vfio/${group}`);
    await open('/dev/vfio/vfio');
    expect((await node.links(await docker.netns('aa'))).map(({ ifname }) => ifname)).toEqual(['lo']);
    expect(await node.sh(`readlink /sys/bus/pci/devices/${vfPci(0, 1)}/driver`)).toMatch(/vfio-pci$/);
    await docker.remove('aa');
    await node.sh('docker network rm user');
    await expectPristine();
  });

  once('containers and pods at once on one PF, with gc all the while: each VF is given once', async () => {
    const pods = ['pod1', 'pod2', 'pod3'];
    await node.pods(...pods);
    const collecting = node.sh('until [ -e /run/over ]; do /opt/cni/bin/sriov gc > /dev/null; done');
    const outcomes = await Promise.all([
      docker.tryRun('aa', '--network fast'),
      docker.tryRun('bb', '--network slow'),
      ...pods.map((pod) => node.cni('ADD', pod, { pf: pfPci(0), vlan: 7 })),
    ]);
    await node.sh('touch /run/over');
    await collecting;
    const has = outcomes.map(({ code }) => code === 0);
    const places = ['aa', 'bb', ...pods].filter((_, index) => has[index]);
    const netnsOf = (place: string) => (pods.includes(place) ? place : docker.netns(place));
    const given: ShownLink[] = [];
    for (const place of places) given.push(...(await vfsIn(await netnsOf(place))));
    expect(new Set(given.map(({ parentdev }) => parentdev)).size).toBe(vfs);
    expect(places).toHaveLength(vfs);
    for (const pod of pods) await node.del(pod, { pf: pfPci(0) });
    await docker.remove('aa', 'bb');
    await node.sh(`rm /run/over; ${pods.map((pod) => `ip netns del ${pod}`).join('; ')}`);
    await expectPristine();
  });

  once('the five minutes of docs/docker.md', async () => {
    const commands = fiveMinutes('docs/docker.md', {
      'ens1f0 4': `ens1f0 ${vfs}`,
      ens1f0: (await node.sh(`ls /sys/bus/pci/devices/${pfPci(0)}/net`)).trim(),
      // Names and addresses that other cases do not have.
      ' fast': ' five',
      '10.9.0.': '10.19.0.',
      ' busybox ': ' pause:1 /bin/busybox ',
    });
    expect(commands).toHaveLength(6);
    for (const command of commands) await node.sh(command);
    await untilListed(/attached .*container one \(five\)/);
    await docker.remove('one');
    await node.sh('docker network rm five');
    await expectPristine();
  });

  rarely('deploy/examples/docker.sh', async () => {
    await node.machine.write('/run/docker.sh', readFileSync('deploy/examples/docker.sh', 'utf8'));
    const output = await node.sh(`PF=${pfPci(0)} IMAGE=pause:1 sh /run/docker.sh`);
    expect(output).toMatch(/attached .*(container db|Docker's endpoint)/);
    await untilListed(/container db \(example\)/);
    expect(output).toMatch(/inet 10\.11\.0\.\d+\/24/);
    await expectPing(await docker.netns('db'), '10.11.0.80');
    expect(await rates()).toEqual([500, 1000]);
    await docker.remove('web', 'db');
    await node.sh('docker network rm example');
    await expectPristine();
  });

  // Debian has Compose of this generation only since trixie.
  test.runIf(release === 'sid')('deploy/examples/docker-compose.yaml', async () => {
    await node.machine.write(
      '/run/compose/compose.yaml',
      readFileSync('deploy/examples/docker-compose.yaml', 'utf8'),
    );
    const compose = `cd /run/compose; PF=${pfPci(0)} IMAGE=pause:1 docker compose`;
    await node.sh(`${compose} up -d`);
    const [web, db] = await Promise.all(['web', 'db'].map((name) => node.sh(`${compose} ps -q ${name}`)));
    expect(await node.link('eth0', await docker.netns(web ?? ''))).toMatchObject({
      address: '02:00:00:00:0a:80',
    });
    await expectPing(await docker.netns(db ?? ''), '10.12.0.80');
    expect(await rates()).toEqual([500, 1000]);
    await node.sh(`${compose} down -t 0`);
    await expectPristine();
  });

  rarely('the driver down when a container ends: its start gives the VF back', async () => {
    await docker.run('aa', '--network fast');
    await docker.stopDriver();
    await docker.remove('aa');
    await docker.startDriver();
    // Until two minutes have passed the container could still be starting; then comes the next look, one a minute.
    await expectPristine(240_000);
  });

  rarely(
    'a reboot: the container that starts by itself has one VF as before, nothing of the old ones is left',
    async () => {
      await docker.run('aa', '--network fast --restart always');
      await docker.run('bb', '--network fast');
      await docker.reboot(vfs);
      await untilListed(/container aa/);
      await expect
        .poll(async () => countIn(await list(), / free /g), { timeout: 90_000, interval: 1000 })
        .toBe(2);
      await node.sh('docker start bb');
      await expectPing(await docker.netns('bb'), (await docker.inNetwork('aa', 'fast')).IPAddress);
      await docker.remove('aa', 'bb');
      expect(await node.sh('ls /var/lib/cni/sriov/claims')).toBe('');
      expect(countIn(await list(), / free /g)).toBe(vfs);
    },
  );

  test('neither the kernel nor the driver had a complaint', async () => {
    expect(node.machine.console()).not.toMatch(/WARNING:|Oops|BUG:/);
    expect(await node.sh('cat /run/driver.log')).not.toMatch(/\n +at .*\(|Unhandled|TypeError/);
  });
}
