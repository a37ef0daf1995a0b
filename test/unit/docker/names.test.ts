import { createServer } from 'node:http';
import { expect, test } from 'vitest';
import { Chores } from '../../../src/docker/chores.ts';
import { learnNames } from '../../../src/docker/names.ts';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { Sysfs } from '../../../src/kernel/sysfs.ts';
import type { EndpointClaim } from '../../../src/vf/claim.ts';
import { readClaim, writeClaim } from '../../../src/vf/claims.ts';
import { lockVf } from '../../../src/vf/vf-lock.ts';
import type { Host } from '../../../src/vf/host.ts';
import { ownerName } from '../../../src/vf/owner.ts';
import { endpointId, networkId } from '../../support/recorded-docker.ts';
import { temporaryTree } from '../../support/sysfs-tree.ts';

const pci = '0000:03:10.0';
const claim: EndpointClaim = {
  version: 2,
  phase: 'joined',
  phaseMs: 1,
  owner: { kind: 'docker', network: networkId, endpointId, bootId: 'b' },
  hostIfname: 'v0310_0',
  join: { prefix: 'eth', hasGateway: true },
  since: '2026-01-01T00:00:00.000Z',
  vf: { pci, index: 0, pf: { pci: '0000:03:00.0' } },
  asked: {},
  original: { settings: {} },
};

/** What `/containers/json` of Docker 28.5 says, as far as it is read; every container has more. */
const containers = [
  { Id: 'c0', Names: ['/other'], NetworkSettings: { Networks: null } },
  {
    Id: 'c1',
    Names: ['/web'],
    State: 'running',
    NetworkSettings: {
      Networks: { bridge: { EndpointID: '' }, fast: { EndpointID: endpointId, IPAddress: '10.9.0.2' } },
    },
  },
];

function hostWith(root: string): Host {
  const log = new Log('panic');
  return { sys: new Sysfs(root), netns: Netns.current(), stateDir: root, bootId: 'b', log };
}

function name(host: Host): string | undefined {
  const found = readClaim(host, pci);
  return found && ownerName(found);
}

/** Learns the names from a Docker that answers so; with `answer` undefined it answers nothing, without an API there is none. */
async function learnt(answer: string | undefined, status = 200, hasApi = true) {
  using tree = temporaryTree({ claims: {} });
  const host = hostWith(tree.root);
  writeClaim(host, claim, false);
  const asked: string[] = [];
  const api = `${tree.root}/docker.sock`;
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.statusCode = status;
    if (answer !== undefined) response.end(answer);
  });
  if (hasApi) await new Promise<void>((resolve) => server.listen(api, resolve));
  const areAllKnown = await learnNames(host, api);
  server.close();
  server.closeAllConnections();
  return { areAllKnown, asked, name: name(host), found: readClaim(host, pci) };
}

test('the container behind an endpoint is written into its claim', async () => {
  const { areAllKnown, asked, name, found } = await learnt(JSON.stringify(containers));
  expect({ areAllKnown, name }).toEqual({ areAllKnown: true, name: 'container web (c1)' });
  expect(found?.owner).toMatchObject({ networkName: 'fast', network: networkId, endpointId });
  expect(asked).toEqual(['/containers/json']); // never a container's own: that waits for our answer
});

test.each<[string, string | undefined, number, boolean]>([
  ['knows no such endpoint', '[]', 200, true],
  ['says no', JSON.stringify(containers), 500, true],
  ['says what is no JSON', '[{', 200, true],
  ['says something else', '{"message":"no"}', 200, true],
  ['does not answer', undefined, 200, true],
  ['is not there', '[]', 200, false],
])('a Docker that %s leaves the claim as it is', async (_, answer, status, hasApi) => {
  const { areAllKnown, name, found } = await learnt(answer, status, hasApi);
  expect(areAllKnown).toBe(false);
  expect(name).toBe(`Docker's endpoint ${endpointId}`);
  expect(found).toEqual(claim);
});

test('containers that start all the while do not put the question off', async () => {
  using tree = temporaryTree({ claims: {} });
  const host = hostWith(tree.root);
  writeClaim(host, claim, false);
  const api = `${tree.root}/docker.sock`;
  const server = createServer((_, response) => response.end(JSON.stringify(containers)));
  await new Promise<void>((resolve) => server.listen(api, resolve));
  using chores = new Chores(host, { env: {} }, api);
  const starting = setInterval(() => chores.learnNamesSoon(), 100);
  await expect.poll(() => name(host), { timeout: 30_000 }).toBe('container web (c1)');
  clearInterval(starting);
  server.close();
  server.closeAllConnections();
});

test('a claim that somebody is at work on is left for the next time', async () => {
  using tree = temporaryTree({ claims: {} });
  const host = hostWith(tree.root);
  writeClaim(host, claim, false);
  const api = `${tree.root}/docker.sock`;
  const server = createServer((_, response) => response.end(JSON.stringify(containers)));
  await new Promise<void>((resolve) => server.listen(api, resolve));
  {
    using lock = lockVf(host, pci, 0);
    expect(lock).toBeDefined();
    expect(await learnNames(host, api)).toBe(false);
    expect(readClaim(host, pci)).toEqual(claim);
  }
  expect(await learnNames(host, api)).toBe(true);
  server.close();
  server.closeAllConnections();
});
