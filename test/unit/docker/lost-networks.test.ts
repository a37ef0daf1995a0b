import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { expect, test } from 'vitest';
import { forgetNetworks } from '../../../src/docker/lost-networks.ts';
import { readNetwork, writeNetwork } from '../../../src/docker/networks.ts';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { Sysfs } from '../../../src/kernel/sysfs.ts';
import type { Host } from '../../../src/vf/host.ts';
import { dockerApi } from '../../support/docker-api.ts';
import { networkId } from '../../support/recorded-docker.ts';
import { temporaryTree } from '../../support/sysfs-tree.ts';

const network = { version: 1, id: networkId, options: { pf: 'ens1' }, internal: false } as const;

/** A state folder in which a network was written down so many days ago. */
function written(days: number) {
  const tree = temporaryTree({});
  const log = new Log('panic');
  const host: Host = {
    sys: new Sysfs(tree.root),
    netns: Netns.current(),
    stateDir: tree.root,
    bootId: 'b',
    log,
  };
  writeNetwork(host, network);
  const path = `${tree.root}/networks/${networkId}.json`;
  const ago = Date.now() / 1000 - days * 24 * 3600;
  utimesSync(path, ago, ago);
  return {
    ...tree,
    host,
    api: `${tree.root}/docker.sock`,
    names: () => readdirSync(`${tree.root}/networks`),
  };
}

const theirs = { [`/networks/${networkId}`]: { Id: networkId, Name: 'fast', Containers: {} } };
const record = `${networkId}.json`;

test('a network that Docker has not had for a week is forgotten', async () => {
  using one = written(8);
  using docker = await dockerApi(one.api, {});
  await forgetNetworks(one.host, one.api);
  expect(docker.asked).toEqual([`/networks/${networkId}`]);
  expect(one.names()).toEqual([]);
});

test('one that Docker has is kept, and asked for no more than once a day', async () => {
  using one = written(400);
  using docker = await dockerApi(one.api, theirs);
  for (let times = 0; times < 3; times++) await forgetNetworks(one.host, one.api);
  expect(readNetwork(one.host, networkId)).toEqual(network);
  expect(docker.asked).toHaveLength(1);
});

test('one that Docker does not have for some days, its disk not being there, is kept', async () => {
  using one = written(6);
  using docker = await dockerApi(one.api, {});
  await forgetNetworks(one.host, one.api);
  expect([one.names(), docker.asked.length]).toEqual([[record], 1]);
});

test('one that is being made, which Docker does not have as yet, is not asked for', async () => {
  using one = written(0);
  using docker = await dockerApi(one.api, {});
  await forgetNetworks(one.host, one.api);
  expect([one.names(), docker.asked]).toEqual([[record], []]);
});

test.each<[string, number, string]>([
  ['is starting', 500, '{"message":"starting"}'],
  ['is another program', 404, '404 page not found'],
  ['knows no such path', 404, '{"message":"page not found"}'],
  ['speaks of another network', 200, '{"Id":"x","Containers":{}}'],
])('a Docker that %s makes nobody forget', async (_, status, text) => {
  using one = written(400);
  const server = createServer((__, response) => {
    response.statusCode = status;
    response.end(text);
  });
  await new Promise<void>((resolve) => server.listen(one.api, resolve));
  await forgetNetworks(one.host, one.api);
  server.close();
  server.closeAllConnections();
  expect(one.names()).toEqual([record]);
});

test('no Docker, or a record that nobody can read: nothing is forgotten, and the others are looked at', async () => {
  using one = written(400);
  await forgetNetworks(one.host, one.api);
  expect(one.names()).toEqual([record]);
  const damaged = `${one.root}/networks/0.json`;
  writeFileSync(damaged, '{');
  utimesSync(damaged, 1, 1);
  using docker = await dockerApi(one.api, { '/networks/0': { Id: '0', Containers: {} } });
  await forgetNetworks(one.host, one.api);
  expect(docker.asked).toEqual(['/networks/0', `/networks/${networkId}`]);
  expect(one.names()).toEqual(['0.json']);
  await forgetNetworks(one.host, one.api);
  expect(docker.asked).toHaveLength(2);
});
