import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { engine } from '../../lab/engine.ts';
import { supportedVersions } from '../../src/cni/versions.ts';
import { TestNode, vfPci } from '../support/node.ts';

const call = (command: string) =>
  `CNI_COMMAND=${command} CNI_CONTAINERID=c CNI_NETNS=/run/netns/c CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin`;
const config = `{"cniVersion":"1.0.0","name":"net","type":"sriov","deviceID":"${vfPci(0, 0)}"}`;
/** Everything that a PF can be asked for, and addresses of both families. */
const settings = {
  vlan: 100,
  trust: 'on',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.9.0.0/24' }], [{ subnet: 'fd00:9::/64' }]] },
};
const noSuchVf = config.replace(vfPci(0, 0), '0000:09:00.0');
/** An ADD that needs both addons, since it looks into the namespace, and is refused there. */
const refusedAdd = `${call('ADD')} /opt/cni/bin/sriov <<< '${noSuchVf}'`;

describe('the executable', () => {
  let node: TestNode;
  beforeAll(async () => {
    node = await TestNode.start({ pfs: 1, vfs: 1 });
    await node.pods('c');
  });
  afterAll(() => node[Symbol.asyncDispose]());

  test('runs where no Node is installed, as one file', async () => {
    expect(
      await node.sh('! command -v node; ls /opt/cni/bin | grep sriov; stat -c %F /opt/cni/bin/sriov'),
    ).toBe('sriov\nregular file');
    expect(await node.sh('/opt/cni/bin/sriov --version')).toMatch(
      /^sriov \d+\.\d+\.\d+ \((?:QuickJS-ng|Node\.js) \d+\.\d+\.\d+\)$/,
    );
  });

  test('answers VERSION with every version, whatever stands on stdin, and nothing on stderr', async () => {
    for (const stdin of ['{"cniVersion":"0.4.0"}', '', 'nonsense']) {
      const { stdout, stderr } = await node.machine.run('CNI_COMMAND=VERSION /opt/cni/bin/sriov', { stdin });
      expect(JSON.parse(stdout)).toEqual({
        cniVersion: stdin.startsWith('{') ? '0.4.0' : '1.1.0',
        supportedVersions,
      });
      expect(stderr).toBe(''); // "Code cache data rejected" would stand here
    }
  });

  test('twenty first starts at once do not trip over each other, and leave nothing behind', async () => {
    await node.sh('echo 3 > /proc/sys/vm/drop_caches');
    const before = await node.sh('find /opt/cni/bin /run /dev/shm /tmp /root /var/lib -xdev | sort');
    const answers = await node.sh(`for i in $(seq 20); do (${refusedAdd} || true) 2>&1 & done; wait`);
    const lines = answers.split('\n').filter((line) => line.startsWith('{'));
    expect(lines).toHaveLength(20);
    expect(new Set(lines).size).toBe(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ code: 100 });
    expect(await node.sh('find /opt/cni/bin /run /dev/shm /tmp /root /var/lib -xdev | sort')).toBe(before);
  });

  test.runIf(engine === 'node')(
    "loads of Node's own modules only what its start snapshot lacks and every command needs",
    async () => {
      const attached = { ...(JSON.parse(config) as object), ...settings };
      const newest = { ...attached, cniVersion: '1.1.0', ipam: undefined }; // Debian's host-local is older
      const calls: [command: string, config: object][] = [
        ['VERSION', {}],
        ['STATUS', newest],
        ['ADD', { ...attached, mac: '02:00:00:00:0b:01', logLevel: 'debug' }],
        ['CHECK', attached],
        ['GC', { ...newest, 'cni.dev/valid-attachments': [{ containerID: 'c', ifname: 'net1' }] }],
        ['DEL', attached],
      ];
      let prevResult: unknown;
      const loaded: Record<string, string[]> = {};
      for (const [command, stdin] of calls) {
        const env = { NODE_DEBUG_NATIVE: 'code_cache' };
        const { answer, stderr } = await node.cni(command, 'c', { ...stdin, prevResult }, { env });
        expect(answer?.msg, command).toBeUndefined();
        if (command === 'ADD') prevResult = answer;
        loaded[command] = [...stderr.matchAll(/^Compiling (\S+)/gm)].map(([, name]) => name as string).sort();
      }
      const start = ['internal/main/embedding'];
      const withAddons = [...start, 'sea']; // 'sea' hands out the addons: the first one reads stdin
      expect(loaded).toEqual({
        VERSION: withAddons,
        STATUS: withAddons,
        ADD: withAddons,
        CHECK: withAddons,
        GC: withAddons,
        DEL: withAddons,
      });
    },
  );

  // ICU compares an /etc/localtime that is a file of its own with every file of /usr/share/zoneinfo.
  test("never looks for the host's time zone, and hands on its caller's to the IPAM plugin", async () => {
    await node.machine.write(
      '/run/ipam/recorder',
      '#!/bin/sh\necho "${TZ-none}" >> /run/ipam/tz\nexec /opt/cni/bin/host-local\n',
      0o755,
    );
    const traced = 'strace -o /run/trace -e trace=%file';
    for (const TZ of [undefined, 'Asia/Tokyo']) {
      const env = { CNI_PATH: '/run/ipam', ...(TZ === undefined ? {} : { TZ }) };
      const recorded = { deviceID: vfPci(0, 0), ipam: { ...settings.ipam, type: 'recorder' } };
      const { code, stderr } = await node.cni('ADD', 'c', recorded, { env }, traced);
      expect(code, stderr).toBe(0);
      const trace = await node.sh('cat /run/trace');
      expect(trace).toContain('/var/lib/cni/sriov/claims');
      expect(trace).not.toMatch(/localtime|zoneinfo\/"/);
      await node.del('c', recorded, { env });
    }
    expect(await node.sh('cat /run/ipam/tz')).toBe('none\nnone\nAsia/Tokyo\nAsia/Tokyo');
  });

  test('runs no code of NODE_OPTIONS, and needs no home folder', async () => {
    await node.machine.write('/tmp/evil.js', 'require("fs").writeFileSync("/tmp/evil", "")');
    const { code } = await node.machine.run('CNI_COMMAND=VERSION /opt/cni/bin/sriov', {
      env: { NODE_OPTIONS: '--require /tmp/evil.js --no-such-option', HOME: '/nonexistent' },
      stdin: '{}',
    });
    expect(code).toBe(0);
    expect((await node.machine.run('test -e /tmp/evil')).code).toBe(1);
  });

  describe('on a read-only root', () => {
    const places = ['var/lib/cni', 'run', 'dev/shm', 'tmp'];

    /** Runs the plugin in a root that is read-only but for these places, of which some are noexec. */
    async function inJail(noexec: string[]) {
      await node.machine.write(
        '/run/jail',
        `set -e
        mkdir -p /mnt
        mount -o bind,ro / /mnt
        for folder in dev proc sys; do mount --rbind /$folder /mnt/$folder; done
        ${places.map((place) => `mount -t tmpfs -o ${noexec.includes(place) ? 'noexec' : 'exec'} tmpfs /mnt/${place}`).join('\n')}
        mkdir /mnt/run/netns
        touch /mnt/run/netns/c
        mount --bind /run/netns/c /mnt/run/netns/c
        ${call('ADD')} chroot /mnt /opt/cni/bin/sriov`,
      );
      const { stdout } = await node.machine.run('exec unshare -m bash /run/jail', { stdin: noSuchVf });
      return JSON.parse(stdout) as { code: number; msg: string };
    }

    test.each(places)('%s alone is enough, if it is not noexec', async (place) => {
      expect(await inJail(places.filter((other) => other !== place))).toMatchObject({
        code: 100,
        msg: expect.stringContaining('0000:09:00.0') as string,
      });
    });

    test.runIf(engine === 'static')('none is needed: there is no library to load', async () => {
      expect(await inJail(places)).toMatchObject({ code: 100 });
    });

    test.runIf(engine === 'node')('an error names the folders if none of them will do', async () => {
      const { code, msg } = await inJail(places);
      expect(code).toBe(5);
      for (const place of ['/var/lib/cni/sriov', '/opt/cni/bin', '/run', '/dev/shm', '/tmp'])
        expect(msg).toContain(place);
      expect(msg).toContain('noexec');
    });
  });

  test('says so when nobody reads its answer', async () => {
    const { stderr } = await node.machine.run(
      `CNI_COMMAND=VERSION /opt/cni/bin/sriov <<< '{}' >&-; ${call('DEL')} /opt/cni/bin/sriov <<< '${config}'`,
    );
    expect(stderr).not.toContain('at '); // no stack
  });
});
