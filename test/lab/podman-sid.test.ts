import { expect, test } from 'vitest';
import { difference } from '../support/node.ts';
import { PodmanNode } from '../support/podman.ts';

test('the newest podman and netavark: a MAC with traffic over a VLAN, stop, start, rm', async () => {
  await using podman = await PodmanNode.start('sid', 2);
  const { node } = podman;
  await podman.network('fast', '--subnet 10.9.0.0/24 --opt vlan=100');
  const pristine = await node.state();
  expect(await podman.run('a', '--network fast --mac-address 02:00:00:00:20:07')).toBe('');
  await podman.run('b', '--network fast:mac=02:00:00:00:20:08,ip=10.9.0.77,interface_name=fast0,vlan=100');
  expect(await podman.inNetwork('b', 'fast')).toMatchObject({
    IPAddress: '10.9.0.77',
    MacAddress: '02:00:00:00:20:08',
  });
  expect(await node.ping(await podman.netns('a'), '10.9.0.77')).toBe(3);
  await node.sh('podman stop -t 0 a; podman start a');
  expect(await node.ping(await podman.netns('a'), '10.9.0.77')).toBe(3);
  await podman.remove('a', 'b');
  expect(difference(pristine, await node.state())).toBe('');
});
