import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { difference, hostLocal, pfPci, TestNode, vfPci } from '../support/node.ts';

// What an adversarial review broke: each case once made a VF nobody's, or held it for ever.
let node: TestNode;
let pristine: unknown;
beforeAll(async () => {
  node = await TestNode.start({ pfs: 1, vfs: 4, processors: 2 });
  await node.machine.write('/usr/local/lib/cni/moody', moodyIpam, 0o755);
});
afterAll(() => node[Symbol.asyncDispose]());

/** An IPAM plugin that gives an address, and frees it only while /tmp/good-mood is there. */
const moodyIpam = `#!/bin/bash
stdin=$(cat)
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.77.0.2/24"}]}' ;;
DEL) if [ -e /tmp/good-mood ]; then echo "$CNI_CONTAINERID" >> /tmp/freed; else
  echo '{"cniVersion":"1.0.0","code":120,"msg":"the server is away"}'; exit 1; fi ;;
esac`;
const moody = { CNI_PATH: '/opt/cni/bin:/usr/local/lib/cni' };

let count = 0;
let pod = '';
beforeEach(async () => {
  pod = `pod${count++}`;
  await node.pods(pod);
  pristine = await node.state();
});
// A case that failed must not be what the next one finds.
afterEach(async () => {
  await node.sh(`
    umount /var/lib/cni/sriov 2>/dev/null || true
    ip link del hostlink 2>/dev/null || true
    ip netns del ${pod}; touch /tmp/good-mood; /opt/cni/bin/sriov gc >/dev/null || true; rm /tmp/good-mood`);
});

const named = (index: number, extra: object = {}) => ({ deviceID: vfPci(0, index), vlan: 100, ...extra });
const everythingAsBefore = async () => expect(difference(pristine, await node.state())).toBe('');
const tool = (args: string) => node.machine.run(`/opt/cni/bin/sriov ${args}`);

describe('a pod cannot keep its VF', () => {
  test('by giving it a name or an alternative name that the host has', async () => {
    await node.add(pod, named(0));
    await node.sh(`
      ip link add hostlink type veth peer name hostpeer; ip link property add dev hostlink altname host-alias
      ip -n ${pod} link property add dev net1 altname hostlink altname host-alias altname harmless
      ip -n ${pod} link set net1 alias evil
      ip -n ${pod} link set net1 promisc on allmulticast on`);
    await node.del(pod, named(0));
    await node.sh('ip link del hostlink');
    await everythingAsBefore();
    const links = await node.sh('ip link show');
    expect(links).not.toContain('evil');
  });

  // As Kata does: it takes the VF from its driver for a virtual machine, and when that goes wrong it stays so.
  test('on vfio-pci for a virtual machine', async () => {
    await node.add(pod, named(0));
    const device = `/sys/bus/pci/devices/${vfPci(0, 0)}`;
    await node.sh(`modprobe vfio-pci
      echo vfio-pci > ${device}/driver_override
      echo ${vfPci(0, 0)} > ${device}/driver/unbind
      echo ${vfPci(0, 0)} > /sys/bus/pci/drivers_probe
      [[ $(readlink ${device}/driver) == */vfio-pci ]]`);
    const group = await node.sh(`basename $(readlink ${device}/iommu_group)`);
    const vmm = await node.hold(`/dev/vfio/${group}`);
    const held = await node.cni('DEL', pod, named(0));
    expect(held.answer).toMatchObject({
      code: 11,
      msg: expect.stringMatching(/sleep .* has it open/) as string,
    });
    await node.kill(vmm);
    await node.del(pod, named(0));
    await everythingAsBefore();
  });

  test('from an operator either', async () => {
    await node.add(pod, named(0));
    await node.sh(
      `ip link add hostlink type veth peer name hostpeer; ip -n ${pod} link property add dev net1 altname hostlink`,
    );
    expect(await tool(`release ${vfPci(0, 0)} --force`)).toMatchObject({ code: 0 });
    await node.sh('ip link del hostlink');
    await everythingAsBefore();
  });
});

describe('a disk without room', () => {
  const fill = 'dd if=/dev/zero of=/var/lib/cni/sriov/filler bs=1k 2>/dev/null || true';
  const small = (then: string) =>
    node.sh(`
    mkdir -p /var/lib/cni/sriov; mount -t tmpfs -o size=300k tmpfs /var/lib/cni/sriov; ${then}`);
  const unmount = () => node.sh('umount /var/lib/cni/sriov');

  test.each([
    ['full', fill],
    ['read-only', 'mount -o remount,ro /var/lib/cni/sriov'],
  ])('does not keep the VF of a pod that goes: %s', async (_, spoil) => {
    await small('true');
    await node.add(pod, named(1, { trust: 'on' }));
    await node.sh(spoil);
    const { code, answer } = await node.cni('DEL', pod, named(1));
    await node.sh('mount -o remount,rw /var/lib/cni/sriov; rm -f /var/lib/cni/sriov/filler');
    // On a read-only folder the claim cannot go, which is worth an error; the VF is back all the same.
    if (spoil !== fill)
      expect(answer).toMatchObject({ code: 5, msg: expect.stringContaining('claims/') as string });
    else expect(code).toBe(0);
    expect((await node.vf(0, 1)).vlan_list[0]?.vlan ?? 0).toBe(0);
    expect(await node.sh(`ip -n ${pod} -br link`)).not.toContain('net1');
    await node.del(pod, named(1));
    await unmount();
    await everythingAsBefore();
  });

  test('makes an ADD fail and leaves the VF on the host, whenever it fills', async () => {
    for (const room of [0, 8, 40, 100, 200]) {
      await small(`${fill}; truncate -s -${room}k /var/lib/cni/sriov/filler`);
      const { code, answer } = await node.cni('ADD', pod, named(1));
      if (code === 0) await node.del(pod, named(1));
      else
        expect(answer).toMatchObject({
          code: 5,
          msg: expect.stringContaining('/var/lib/cni/sriov') as string,
        });
      await unmount();
      await everythingAsBefore();
    }
  });
});

describe('an address that cannot be freed', () => {
  const ipam = { ipam: { type: 'moody' } };
  const freed = async () => (await node.sh('cat /tmp/freed 2>/dev/null || true')).split('\n').filter(Boolean);
  const listed = async () => (await tool('list')).stdout;

  test('fails its DEL, but not the next pod of another network; gc frees it later', async () => {
    await node.add(pod, named(2, ipam), { env: moody });
    const failed = await node.cni('DEL', pod, named(2, ipam), { env: moody });
    expect(failed.answer).toMatchObject({
      code: 102,
      msg: expect.stringContaining('the server is away') as string,
    });
    await node.pods(`${pod}-next`);
    await node.add(`${pod}-next`, { ...named(2), name: 'other' });
    await node.del(`${pod}-next`, { ...named(2), name: 'other' });
    expect(await listed()).toContain('the server is away');
    expect((await tool('gc')).code).toBe(1);
    await node.sh('touch /tmp/good-mood');
    expect((await tool('gc')).code).toBe(0);
    await node.sh('rm /tmp/good-mood');
    expect(await freed()).toContain(pod);
    await everythingAsBefore();
  });

  test('is freed by the DEL that comes again', async () => {
    await node.add(pod, named(2, ipam), { env: moody });
    for (let tries = 0; tries < 2; tries++)
      expect((await node.cni('DEL', pod, named(2, ipam), { env: moody })).code).toBe(1);
    await node.sh('touch /tmp/good-mood');
    await node.del(pod, named(2, ipam), { env: moody });
    await node.sh('rm /tmp/good-mood');
    expect(await freed()).toContain(pod);
    await everythingAsBefore();
  });

  test('can be dropped by an operator', async () => {
    await node.add(pod, named(2, ipam), { env: moody });
    expect((await node.cni('DEL', pod, named(2, ipam), { env: moody })).code).toBe(1);
    const lease = /\d{4}:\S+-\d+T\d+Z/.exec(await listed())?.[0] ?? '';
    expect((await tool(`release ${lease}`)).code).toBe(1);
    expect((await tool(`release ${lease} --force`)).code).toBe(0);
    await everythingAsBefore();
  });

  test('is freed through the CNI_PATH of the DEL where the plugins have moved', async () => {
    await node.sh('mkdir -p /opt/cni/v1; cp /opt/cni/bin/host-local /opt/cni/v1');
    const config = named(2, { ipam: hostLocal('10.9.1.0/24') });
    await node.add(pod, config, { env: { CNI_PATH: '/opt/cni/v1' } });
    await node.sh('mv /opt/cni/v1 /opt/cni/v2');
    await node.del(pod, config, { env: { CNI_PATH: '/opt/cni/v2' } });
    await everythingAsBefore();
  });
});

describe('one attachment', () => {
  test('takes one VF, however often its ADD comes, also without a netdev', async () => {
    const config = { pf: pfPci(0), dpdk: true };
    await node.add(pod, config);
    expect((await node.cni('ADD', pod, config)).answer).toMatchObject({ code: 4 });
    await node.del(pod, config);
    await everythingAsBefore();
  });

  test('takes one VF where its ADDs come at once', async () => {
    const config = { pf: pfPci(0), dpdk: true };
    const outcomes = await Promise.all([1, 2, 3].map(() => node.cni('ADD', pod, config)));
    expect(outcomes.filter(({ code }) => code === 0).length).toBeLessThanOrEqual(1);
    for (const { answer } of outcomes) expect([undefined, 4, 11]).toContain(answer?.code);
    expect(
      (await node.sh('ls /var/lib/cni/sriov/claims')).split('\n').filter(Boolean).length,
    ).toBeLessThanOrEqual(1);
    await node.del(pod, config);
    await everythingAsBefore();
  });

  test('is given back wherever its namespace is now', async () => {
    const script = `unshare --net sleep 1000 > /dev/null 2>&1 & echo $!`;
    const pid = await node.sh(script);
    await node.sh(
      `until [ "$(readlink /proc/${pid}/ns/net)" != "$(readlink /proc/1/ns/net)" ]; do sleep 0.05; done`,
    );
    await node.add(pod, named(3), { netns: `/proc/${pid}/ns/net` });
    await node.sh(`touch /run/netns/kept; mount --bind /proc/${pid}/ns/net /run/netns/kept; kill ${pid}`);
    await node.del(pod, named(3), { netns: '/run/netns/kept' });
    await node.sh('umount /run/netns/kept; rm /run/netns/kept');
    await everythingAsBefore();
  });
});

describe('a claim of a later version of this program', () => {
  const file = `/var/lib/cni/sriov/claims/${vfPci(0, 3)}.json`;

  test('is kept by everybody, and its VF is given to nobody', async () => {
    const text = JSON.stringify({ version: 3, owner: { kind: 'later', containerId: 'later' } });
    await node.machine.write(file, text, 0o600);
    expect((await tool('gc --dry-run')).stdout).toContain('later version');
    await tool('gc');
    expect((await node.cni('ADD', pod, named(3))).answer).toMatchObject({ code: 11 });
    for (let n = 0; n < 3; n++)
      await node.cni('ADD', `${pod}`, { pf: pfPci(0) }, { containerId: `c${n}`, ifname: `n${n}` });
    expect(
      (await node.cni('ADD', pod, { pf: pfPci(0) }, { containerId: 'c4', ifname: 'n4' })).answer,
    ).toMatchObject({ code: 11 });
    expect((await node.cni('DEL', pod, named(3), { containerId: 'later' })).code).toBe(1);
    expect(await node.sh(`cat ${file}`)).toBe(text);
    for (let n = 0; n < 3; n++)
      await node.del(pod, { pf: pfPci(0) }, { containerId: `c${n}`, ifname: `n${n}` });
    await node.sh(`rm ${file}`);
    await everythingAsBefore();
  });
});
