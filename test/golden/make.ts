/**
 * Captures iproute2's own request for every VF setting and for a bond into test/golden/*.hex: the payload after the netlink header, as
 * strace shows it leaving. Run as root on any machine with strace and ip but without the module bonding; the kernel refuses (lo has no VFs
 * and is no bond), but the request is complete.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

const settings: Record<string, string> = {
  mac: 'mac 02:aa:bb:cc:dd:01',
  vlan: 'vlan 100',
  'vlan-qos': 'vlan 100 qos 3',
  'vlan-none': 'vlan 0',
  'vlan-8021ad': 'vlan 100 qos 3 proto 802.1ad',
  rate: 'max_tx_rate 200 min_tx_rate 50',
  'spoofchk-on': 'spoofchk on',
  'spoofchk-off': 'spoofchk off',
  'state-auto': 'state auto',
  'state-enable': 'state enable',
  'state-disable': 'state disable',
  'trust-on': 'trust on',
  'trust-off': 'trust off',
};

const requests: Record<string, string> = {
  ...Object.fromEntries(
    Object.entries(settings).map(([name, setting]) => [name, `ip link set lo vf 1 ${setting}`]),
  ),
  'bond-add':
    'ip link add net1 index 1073807616 mtu 1400 type bond mode active-backup miimon 100 fail_over_mac active',
  'bond-primary': 'ip link set lo type bond primary lo',
  'bond-enslave': 'ip link set lo master lo',
  'bond-delete': 'ip link delete lo',
};

const NLMSG_HDRLEN = 16;
const version = execFileSync('ip', ['-V'], { encoding: 'utf8' }).trim();

const [only] = process.argv.slice(2);
for (const [name, request] of Object.entries(requests)) {
  if (only !== undefined && !name.startsWith(only)) continue;
  const command = request.split(' ');
  const { stderr } = spawnSync(
    'strace',
    ['-xx', '-e', 'trace=sendmsg', '-e', 'raw=sendmsg', '-e', 'write=3', ...command],
    {
      encoding: 'utf8',
    },
  );
  // The last message that left is the setting; others look the link up.
  const dump = stderr
    .slice(stderr.lastIndexOf(' bytes in buffer 0'))
    .split('\n')
    .filter((line) => line.startsWith(' | '));
  const bytes = dump.flatMap((line) => line.slice(10, 59).trim().split(/ +/));
  const payload = bytes.slice(NLMSG_HDRLEN);
  const lines = Array.from({ length: Math.ceil(payload.length / 16) }, (_, i) =>
    payload.slice(16 * i, 16 * i + 16).join(' '),
  );
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(
    `test/golden/${name}.hex`,
    `# ${command.join(' ')}\n# ${version}, captured with strace ${date}\n${lines.join('\n')}\n`,
  );
}
