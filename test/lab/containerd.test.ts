import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bookworm, Containerd, makePauseImage, sid, tappedCalls } from '../support/containerd.ts';
import { difference, hostLocal, pfPci, TestNode } from '../support/node.ts';
import { isSoak } from '../support/random.ts';

let node: TestNode;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 7, disks: ['runtimes', 'containerd-sid'] });
  await makePauseImage(node);
});
afterAll(() => node[Symbol.asyncDispose]());

const pool = {
  type: 'sriov',
  pf: pfPci(0),
  vlan: 100,
  mtu: 1400,
  ipam: hostLocal('10.1.0.0/24', { routes: [{ dst: '0.0.0.0/0' }] }),
};
const tuning = (sysctl: Record<string, string>) => ({ type: 'tuning', sysctl });

describe.each([bookworm, sid])('containerd of $release, through CRI', (release) => {
  // What does not differ between releases is seen with one of them; make soak runs it with both.
  const once = (name: string, run: () => Promise<void>) => {
    if (release === bookworm || isSoak) test(name, run);
  };
  let containerd: Containerd;
  let pristine: unknown;

  beforeAll(async () => {
    containerd = await Containerd.start(node, release);
    await containerd.useNetwork('pods', pool, tuning({ 'net.core.somaxconn': '500' }));
    pristine = await node.state();
    await tappedCalls(node);
  });
  afterAll(() => containerd[Symbol.asyncDispose]());
  afterEach(() => containerd.endAll()); // what a failed test left
  const expectPristine = async () => expect(difference(pristine, await node.state())).toBe('');

  test('two pods reach each other over VFs, in a chain with tuning; each is deleted twice', async () => {
    const [a, b] = [await containerd.run('a'), await containerd.run('b')];
    const eth0 = await node.link('eth0', a.netns);
    expect(eth0).toMatchObject({ mtu: 1400, operstate: 'UP' });
    expect(eth0.parentdev).toMatch(/^0000:01:1[01]\.[0246]$/);
    expect(await node.addresses('eth0', a.netns)).toContainEqual(
      expect.objectContaining({ local: a.ip, prefixlen: 24 }),
    );
    const pf = (await node.links()).find(({ parentdev }) => parentdev === pfPci(0));
    expect(pf?.vfinfo_list?.filter(({ vlan_list }) => vlan_list[0]?.vlan === 100)).toHaveLength(2);
    expect(await node.sh(`ip netns exec ${a.netns} cat /proc/sys/net/core/somaxconn`)).toBe('500');
    expect(await node.ping(a.netns, b.ip)).toBe(3);

    await containerd.end(a);
    await containerd.end(b);
    const calls = await tappedCalls(node);
    const of = ({ id }: { id: string }) => calls.filter(({ containerId }) => containerId === id);
    for (const pod of [a, b]) {
      const [add, del, again, ...more] = of(pod);
      expect(more).toEqual([]);
      expect(add).toMatchObject({
        command: 'ADD',
        ifname: 'eth0',
        netns: expect.stringContaining(pod.netns) as string,
      });
      expect(add?.args.split(';')).toEqual(
        expect.arrayContaining([
          'IgnoreUnknown=1',
          'K8S_POD_NAMESPACE=shop',
          `K8S_POD_NAME=${pod === a ? 'a' : 'b'}`,
        ]),
      );
      expect(del).toMatchObject({ command: 'DEL', netns: add?.netns, config: { prevResult: { ips: [{}] } } });
      expect(again).toMatchObject({ command: 'DEL', netns: '' });
      expect(again?.config['prevResult']).toBeUndefined();
    }
    await expectPristine();
  });

  once('containerd is restarted while pods live', async () => {
    const [c, d] = [await containerd.run('c'), await containerd.run('d')];
    await containerd.stopDaemon();
    expect(await node.ping(c.netns, d.ip)).toBe(3);
    await containerd.startDaemon();
    expect((await containerd.cri.podSandboxStatus(c.id)).isReady).toBe(true);
    await containerd.end(c);
    await containerd.end(d);
    await expectPristine();
  });

  once('every VF at once, and one pod more', async () => {
    const names = Array.from({ length: 7 }, (_, index) => `many-${index}`);
    const pods = await Promise.all(names.map((name) => containerd.run(name)));
    const vfs = await Promise.all(pods.map(async ({ netns }) => (await node.link('eth0', netns)).parentdev));
    expect(new Set(vfs).size).toBe(7);
    expect(new Set(pods.map(({ ip }) => ip)).size).toBe(7);
    await expect(containerd.run('one-more')).rejects.toThrow(/No VF of .* is free: all 7 are in use/);
    await Promise.all(pods.map((pod) => containerd.end(pod)));
    await containerd.endAll(); // the runtime may remember the one that failed
    await expectPristine();
  });

  once('an ADD that fails behind us is followed by DEL', async () => {
    await tappedCalls(node);
    await containerd.useNetwork('failing', pool, tuning({ 'net.no.such.key': '1' }));
    await expect(containerd.run('e')).rejects.toThrow(/no\/such\/key/);
    const commands = (await tappedCalls(node))
      .filter(({ containerId }) => containerId)
      .map(({ command }) => command);
    expect(commands.slice(0, 2)).toEqual(['ADD', 'DEL']);
    await containerd.endAll();
    await containerd.useNetwork('pods', pool);
    await expectPristine();
  });

  once('after a reboot', async () => {
    const old = await containerd.run('f');
    await tappedCalls(node);
    await containerd.crash();
    await node.sh(`
      echo 0 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs
      cat /proc/sys/kernel/random/uuid > /run/boot_id.new; mv /run/boot_id.new /run/boot_id
      ! mountpoint -q /proc/sys/kernel/random/boot_id || umount /proc/sys/kernel/random/boot_id
      mount --bind /run/boot_id /proc/sys/kernel/random/boot_id`);
    await containerd.startDaemon();
    if (release.cniVersion === '1.1.0') {
      expect(await containerd.cri.notReady()).toMatch(/NetworkReady: .*has 0 VFs of 7/);
      expect((await tappedCalls(node)).map(({ command }) => command)).toContain('STATUS');
    }
    await node.sh(`echo 7 > /sys/bus/pci/devices/${pfPci(0)}/sriov_numvfs`);
    expect(await containerd.cri.notReady()).toBe('');
    // What the kubelet does with a pod whose sandbox is gone.
    expect((await containerd.cri.podSandboxStatus(old.id)).isReady).toBe(false);
    await tappedCalls(node);
    await containerd.cri.stopPodSandbox(old.id);
    const [del] = await tappedCalls(node);
    expect(del).toMatchObject({ command: 'DEL', containerId: old.id, netns: '', config: { prevResult: {} } });
    expect(await node.sh('ls /var/lib/cni/sriov/claims')).toBe('');
    pristine = await node.state();
    const pod = await containerd.run('f', { attempt: 1 });
    expect((await node.link('eth0', pod.netns)).mtu).toBe(1400);
    await containerd.end(pod);
    await containerd.cri.removePodSandbox(old.id);
    await expectPristine();
  });

  // It looks for plugins in /opt/cni/bin alone, where the IPAM plugins of bookworm are: they do not know 1.1.0.
  const ctrTest = release === bookworm ? test : undefined;
  ctrTest?.('ctr run --cni', async () => {
    const shown = await containerd.ctr(
      '-n k8s.io run --rm --cni localhost/pause:1 by-hand /bin/busybox ip addr show eth0',
    );
    expect(shown).toMatch(/mtu 1400[^]*inet 10\.1\.0\.\d+\/24/);
    await expectPristine();
  });
});
