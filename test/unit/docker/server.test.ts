import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { calls } from '../../../src/docker/calls.ts';
import { CallServer } from '../../../src/docker/server.ts';
import { Turns } from '../../../src/docker/turns.ts';
import { Log } from '../../../src/kernel/log.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import type { PodClaim } from '../../../src/vf/claim.ts';
import { writeClaim } from '../../../src/vf/claims.ts';
import type { Host } from '../../../src/vf/host.ts';
import { endpointId, endpoints, joined, named, networkId, networks } from '../../support/recorded-docker.ts';
import { pfTree, sysfsTree, temporaryTree } from '../../support/sysfs-tree.ts';

/** A driver that listens, on a machine whose PF "ens1" has two VFs, both somebody's. */
async function listening() {
  const tree = sysfsTree(pfTree({ pci: '0000:03:00.0', vfDriver: 'vfio-pci' }));
  const theirs = '{"version":3}';
  const claims = { '0000:03:10.0.json': theirs, '0000:03:10.2.json': theirs };
  const state = temporaryTree({ state: { claims } });
  const host: Host = {
    sys: tree.sys,
    netns: Netns.current(),
    stateDir: `${state.root}/state`,
    bootId: 'b',
    log: new Log('panic'),
  };
  const seen = { activated: 0 };
  const server = new CallServer({
    host,
    level: 'panic',
    caller: { env: {} },
    turns: new Turns(),
    activated: () => seen.activated++,
    joined: () => undefined,
  });
  const socketPath = `${state.root}/s`;
  await new Promise<void>((resolve) => server.http.listen(socketPath, resolve));
  const post = (path: string, body: string) =>
    new Promise<{ status: number; answer: Record<string, unknown> }>((resolve, reject) => {
      const asked = request({ socketPath, path, method: 'POST', agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, answer: JSON.parse(text) as Record<string, unknown> }),
        );
      });
      asked.on('error', reject);
      asked.end(body);
    });
  const call = async (name: string, body: object | string = '') =>
    (await post(`/NetworkDriver.${name}`, typeof body === 'string' ? body : JSON.stringify(body))).answer;
  return {
    host,
    seen,
    server,
    socketPath,
    post,
    call,
    async [Symbol.asyncDispose]() {
      await server.end();
      tree[Symbol.dispose]();
      state[Symbol.dispose]();
    },
  };
}

const onCard = (options: object) => ({
  ...networks['Docker 28.5'],
  Options: { 'com.docker.network.generic': { pf: 'ens1', driver: 'vfio-pci', ...options } },
});

describe('the protocol', () => {
  test('Plugin.Activate, as dockerd sends it, tells what this is, and that dockerd has started', async () => {
    await using driver = await listening();
    expect(await driver.post('/Plugin.Activate', '')).toEqual({
      status: 200,
      answer: { Implements: ['NetworkDriver'] },
    });
    expect(driver.seen.activated).toBe(1);
  });

  test('GetCapabilities: local', async () => {
    await using driver = await listening();
    expect(await driver.call('GetCapabilities')).toEqual({
      Scope: 'local',
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    });
  });

  test.each<[object, boolean]>([
    [{ 'com.docker.network.generic': { pf: 'ens1' } }, false],
    [{ 'com.docker.network.generic': { pf: 'ens1', gateway: 'none' } }, true],
    [{}, false],
  ])('GwAllocCheck of %j', async (Options, isNone) => {
    await using driver = await listening();
    expect(await driver.call('GwAllocCheck', { Options })).toEqual({ SkipIPv4: isNone, SkipIPv6: isNone });
  });

  test('CreateNetwork writes the network down for root only; DeleteNetwork removes it, twice', async () => {
    await using driver = await listening();
    const folder = `${driver.host.stateDir}/networks`;
    expect(await driver.call('CreateNetwork', onCard({}))).toEqual({});
    expect(await driver.call('CreateNetwork', onCard({ vlan: '7' }))).toEqual({}); // over the first
    expect(readdirSync(folder)).toEqual([`${networkId}.json`]);
    expect(JSON.parse(readFileSync(`${folder}/${networkId}.json`, 'utf8'))).toMatchObject({
      version: 1,
      options: { pf: 'ens1', vlan: '7' },
      gateway: '10.9.0.1',
    });
    expect(await driver.call('DeleteNetwork', { NetworkID: networkId })).toEqual({});
    expect(readdirSync(folder)).toEqual([]);
    expect(await driver.call('DeleteNetwork', { NetworkID: networkId })).toEqual({});
  });

  test.each<[object, RegExp]>([
    [{ pf: 'eth77' }, /Cannot find PF "eth77"/],
    [{ vlan: '4095' }, /"vlan": "4095" is not allowed/],
    [{ vlna: '7' }, /did you mean "vlan"/],
    [{ vf: '6' }, /ens1/],
  ])('CreateNetwork refuses %j, and writes nothing down', async (options, message) => {
    await using driver = await listening();
    expect((await driver.call('CreateNetwork', onCard(options)))['Err']).toMatch(message);
    expect(existsSync(`${driver.host.stateDir}/networks/${networkId}.json`)).toBe(false);
  });

  test('an endpoint of a network that nobody knows: what to do', async () => {
    await using driver = await listening();
    expect((await driver.call('CreateEndpoint', endpoints.run))['Err']).toMatch(
      /made by another plugin.*docker network rm/,
    );
  });

  test('an endpoint of a damaged record likewise', async () => {
    await using driver = await listening();
    await driver.call('CreateNetwork', onCard({}));
    writeFileSync(`${driver.host.stateDir}/networks/${networkId}.json`, '{"version":1}');
    expect((await driver.call('CreateEndpoint', endpoints.run))['Err']).toMatch(/Cannot read the record/);
  });

  test.each<[string, object]>([
    ['Leave', {}],
    ['DeleteEndpoint', {}],
    ['EndpointOperInfo', { Value: {} }],
    ['ProgramExternalConnectivity', {}],
    ['RevokeExternalConnectivity', {}],
    ['DiscoverNew', {}],
    ['DiscoverDelete', {}],
  ])('%s of what nobody knows is no error, twice and at once', async (name, answer) => {
    await using driver = await listening();
    const all = await Promise.all([1, 2, 3].map(() => driver.call(name, named)));
    expect(all).toEqual([answer, answer, answer]);
  });

  test('Join of what nobody knows is one', async () => {
    await using driver = await listening();
    expect((await driver.call('Join', joined))['Err']).toMatch(`Endpoint ${endpointId} is unknown`);
  });

  test('a call of swarm, or of a later Docker, is 404', async () => {
    await using driver = await listening();
    for (const path of ['/NetworkDriver.AllocateNetwork', '/', '/constructor', '/NetworkDriver.'])
      expect((await driver.post(path, '{}')).status).toBe(404);
  });
});

describe('whatever comes, the next call is answered', () => {
  const withBody = Object.keys(calls).filter((path) => !/Activate|Capabilities|External|Discover/.test(path));

  test.each(withBody)('%s without a body, as dockerd repeats it', async (path) => {
    await using driver = await listening();
    expect(await driver.post(path, '')).toMatchObject({
      status: 200,
      answer: { Err: expect.stringMatching(/no body/) as string },
    });
  });

  test.each(withBody)('%s with what is no call', async (path) => {
    await using driver = await listening();
    for (const body of [
      '{',
      'null',
      '[]',
      '"x"',
      '7',
      '{}',
      '{"NetworkID":7,"EndpointID":[]}',
      '\u0000',
      '{"NetworkID":"../x","EndpointID":"../y"}',
      '['.repeat(5000),
    ])
      // prettier-ignore
      expect(await driver.post(path, body), body.slice(0, 20)).toMatchObject({
        status: 200,
        ...(path.endsWith('GwAllocCheck') ? {} : { answer: { Err: expect.any(String) as string } }),
      });
    expect((await driver.post('/Plugin.Activate', '')).status).toBe(200);
  });

  test('a body without end', async () => {
    await using driver = await listening();
    expect((await driver.post('/NetworkDriver.Leave', ' '.repeat(3_000_000))).status).toBe(413);
    expect((await driver.post('/Plugin.Activate', '')).status).toBe(200);
  });

  test.each([
    'nonsense\r\n\r\n',
    'POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{',
    '',
  ])('a connection that breaks off after %j', async (text) => {
    await using driver = await listening();
    await new Promise<void>((resolve) => {
      const socket = connect(driver.socketPath, () => socket.end(text));
      socket.on('error', () => undefined);
      socket.on('close', () => resolve());
      socket.resume();
    });
    expect((await driver.post('/Plugin.Activate', '')).status).toBe(200);
  });

  test('a control character that a user chose reaches nobody’s terminal', async () => {
    await using driver = await listening();
    const { Err } = await driver.call('CreateNetwork', onCard({ pf: 'e\u001b[31m\n' }));
    expect(Err).toMatch(/\\u001b/);
    expect(Err).not.toMatch(/[\0-\x1f]/);
  });
});

test('its end waits for what has begun, and for nobody who only connected', async () => {
  await using driver = await listening();
  const idle = connect(driver.socketPath);
  await new Promise((resolve) => idle.once('connect', resolve));
  const slow = driver.call('CreateEndpoint', endpoints.run);
  await new Promise((resolve) => setTimeout(resolve, 20)); // it has come, or comes too late and is refused
  await driver.server.end();
  await expect(slow).resolves.toMatchObject({ Err: expect.any(String) as string });
  await expect(driver.post('/Plugin.Activate', '')).rejects.toThrow(/ENOENT|ECONNREFUSED/);
  idle.destroy();
});

test('its end does not wait for who has begun to send a call, and does not go on', async () => {
  await using driver = await listening();
  const stalled = connect(driver.socketPath);
  stalled.on('error', () => undefined);
  stalled.write('POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{');
  await new Promise((resolve) => setTimeout(resolve, 100));
  const begin = performance.now();
  await driver.server.end();
  expect(performance.now() - begin).toBeLessThan(5_000);
  stalled.destroy();
});

test('200 connections that say nothing, and one that does', async () => {
  await using driver = await listening();
  const idle = Array.from({ length: 200 }, () => connect(driver.socketPath));
  await Promise.all(idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  expect((await driver.post('/Plugin.Activate', '')).status).toBe(200);
  for (const socket of idle) socket.destroy();
});

test('while one call waits for the IPAM plugin of a dead pod, whose VF it wants, others are answered', async () => {
  await using driver = await listening();
  await driver.call('CreateNetwork', onCard({}));
  const plugins = `${driver.host.stateDir}/plugins`;
  mkdirSync(plugins);
  writeFileSync(`${plugins}/slow`, '#!/bin/sh\nsleep 1.5\n', { mode: 0o755 });
  const pci = '0000:03:10.0';
  const dead: PodClaim = {
    version: 1,
    phase: 'attached',
    owner: {
      network: 'net',
      containerId: 'c',
      ifname: 'net1',
      netns: { path: '/run/netns/gone', inode: 1 },
      bootId: 'of an earlier boot',
    },
    podIfname: 'net1',
    request: {
      config: { cniVersion: '1.0.0', name: 'net', ipam: { type: 'slow' } },
      cniArgs: '',
      cniPath: plugins,
    },
    since: '2026-01-01T00:00:00.000Z',
    vf: { pci, index: 0, pf: { pci: '0000:03:00.0' } },
    asked: {},
    original: { settings: {} },
  };
  writeClaim(driver.host, dead, false);
  const begin = performance.now();
  const creating = driver.call('CreateEndpoint', endpoints.run);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await driver.post('/Plugin.Activate', '');
  expect(performance.now() - begin).toBeLessThan(1000);
  await creating;
  expect(performance.now() - begin).toBeGreaterThan(1500);
  expect(existsSync(`${driver.host.stateDir}/claims/${pci}.json`)).toBe(false);
});

test('calls about one endpoint go in turns, about others beside them', async () => {
  const turns = new Turns();
  const order: string[] = [];
  const work = (name: string, ms: number) => async () => {
    order.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, ms));
    order.push(`${name} ends`);
    if (name === 'a1') throw new Error('a1');
  };
  const all = await Promise.allSettled([
    turns.take('a', work('a1', 50)),
    turns.take('a', work('a2', 1)),
    turns.take('b', work('b1', 1)),
  ]);
  expect(all.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
  expect(order).toEqual(['a1 begins', 'b1 begins', 'b1 ends', 'a1 ends', 'a2 begins', 'a2 ends']);
});

test('10,000 calls leave nothing in memory, and no file open', { timeout: 300_000 }, async () => {
  await using driver = await listening();
  await driver.call('CreateNetwork', onCard({}));
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heap = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const some = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const EndpointID = i.toString(16).padStart(64, '0');
      const { Err } = await driver.call('CreateEndpoint', { ...endpoints.run, EndpointID });
      expect(Err).toMatch(/No VF of ens1 is free: all 2 are in use \(VF 0 .*later version/);
      await driver.call('Join', { ...joined, EndpointID });
      await driver.call('Leave', { ...named, EndpointID });
      await driver.call('DeleteEndpoint', { ...named, EndpointID });
      await driver.call('Nonsense', '{');
    }
  };
  await some(400);
  const files = () => readdirSync('/proc/self/fd').length;
  const [before, filesBefore] = [heap(), files()];
  await some(2000);
  expect((heap() - before) / 1024).toBeLessThan(1024);
  expect(files()).toBeLessThanOrEqual(filesBefore + 2);
});
