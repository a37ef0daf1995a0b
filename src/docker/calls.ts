import type * as z from 'zod/mini';
import { refuseImpossible } from '../attach/possible.ts';
import type { Caller } from '../attach/wish.ts';
import type { LogLevel } from '../kernel/log.ts';
import type { Host } from '../vf/host.ts';
import { withLog } from './call-log.ts';
import { createEndpoint, deleteEndpoint, type Dockerd, join, leave, operInfo } from './endpoints.ts';
import { wishOfNetwork } from './endpoint-wish.ts';
import { type Network, networkOf, readNetwork, removeNetwork, writeNetwork } from './networks.ts';
import { type EndpointName, type NetworkCall, type NetworkOptions, parseBody, schemas } from './protocol.ts';
import type { Turns } from './turns.ts';

/** What a call is answered with, beside the call itself. */
export interface Driver {
  readonly host: Host;
  readonly caller: Caller;
  readonly level: LogLevel;
  readonly turns: Turns;
  /** dockerd has started. */
  readonly activated: () => void;
  /** A container starts, whose name Docker will know soon. */
  readonly joined: () => void;
}

/** How a call is answered. */
type Answer = (driver: Driver, body: string, dockerd: Dockerd) => Promise<object> | object;

/** A call about an endpoint, which waits for the one before about the same: dockerd makes one at a time, but repeats those that it lost. */
function onEndpoint<T extends z.ZodMiniType<EndpointName>>(
  name: string,
  schema: T,
  work: (driver: Driver, call: z.output<T>, dockerd: Dockerd) => Promise<object> | object,
): Answer {
  return (driver, body, dockerd) => {
    const call = parseBody(schema, body);
    const { EndpointID: endpoint, NetworkID: network } = call;
    return driver.turns.take(endpoint, () =>
      withLog(
        driver.host,
        driver.level,
        optionsOf(driver.host, network),
        { call: name, network, endpoint },
        (host) => work({ ...driver, host }, call, dockerd),
      ),
    );
  };
}

/** What a network asks of the log; nothing if it is unknown, which its call will say. */
function optionsOf(host: Host, network: string): Network['options'] {
  try {
    return readNetwork(host, network).options;
  } catch {
    return {};
  }
}

const nothing = () => ({});

/** Every call of libnetwork's remote driver API, by its path. Those of swarm (AllocateNetwork, FreeNetwork) never come to a driver of scope "local". */
export const calls: Readonly<Record<string, Answer>> = {
  '/Plugin.Activate': ({ activated }) => {
    activated();
    return { Implements: ['NetworkDriver'] };
  },
  '/NetworkDriver.GetCapabilities': () => ({
    Scope: 'local',
    ConnectivityScope: 'global',
    GwAllocChecker: true,
  }),
  '/NetworkDriver.GwAllocCheck': (_, body) => checkGateway(parseBody(schemas.GwAllocCheck, body).Options),
  '/NetworkDriver.CreateNetwork': (driver, body) =>
    createNetwork(driver, parseBody(schemas.CreateNetwork, body)),
  '/NetworkDriver.DeleteNetwork': ({ host }, body) => {
    removeNetwork(host, parseBody(schemas.DeleteNetwork, body).NetworkID);
    return {};
  },
  '/NetworkDriver.CreateEndpoint': onEndpoint(
    'CreateEndpoint',
    schemas.CreateEndpoint,
    ({ host, caller }, call, dockerd) => createEndpoint(host, call, dockerd, caller),
  ),
  '/NetworkDriver.Join': onEndpoint('Join', schemas.Join, async ({ host, joined }, call) => {
    const answer = await join(host, call);
    joined();
    return answer;
  }),
  '/NetworkDriver.Leave': onEndpoint('Leave', schemas.Endpoint, ({ host }, call) => leave(host, call)),
  '/NetworkDriver.DeleteEndpoint': onEndpoint('DeleteEndpoint', schemas.Endpoint, ({ host, caller }, call) =>
    deleteEndpoint(host, call, caller),
  ),
  '/NetworkDriver.EndpointOperInfo': onEndpoint('EndpointOperInfo', schemas.Endpoint, ({ host }, call) =>
    operInfo(host, call),
  ),
  '/NetworkDriver.ProgramExternalConnectivity': nothing,
  '/NetworkDriver.RevokeExternalConnectivity': nothing,
  '/NetworkDriver.DiscoverNew': nothing,
  '/NetworkDriver.DiscoverDelete': nothing,
};

/** GwAllocCheck: whether Docker shall keep an address of the pool for a gateway. */
function checkGateway(options: NetworkOptions | null | undefined): object {
  const isNone = options?.['com.docker.network.generic']?.['gateway'] === 'none';
  return { SkipIPv4: isNone, SkipIPv6: isNone };
}

/** CreateNetwork: refuses what makes no sense, or could not work on this machine. The user sees the error. */
function createNetwork({ host: anyHost, level }: Driver, call: NetworkCall): Promise<object> {
  const network = networkOf(call);
  const context = { call: 'CreateNetwork', network: network.id };
  return withLog(anyHost, level, network.options, context, async (host) => {
    await refuseImpossible(host, wishOfNetwork(network).wish);
    writeNetwork(host, network);
    host.log.info('network written down', network.options);
    return {};
  });
}
