import { Failure } from '../attach/failure.ts';
import { lend } from '../attach/lend.ts';
import { release } from '../attach/release.ts';
import { noPublishedPorts } from '../attach/options.ts';
import type { Caller } from '../attach/wish.ts';
import { nowMs, uptimeMs } from '../kernel/clock.ts';
import { Errno, isErrno, NotANetns } from '../kernel/errno.ts';
import type { FileLock } from '../kernel/files.ts';
import { Phases } from '../kernel/log.ts';
import { isSameNetns, Netns } from '../kernel/netns.ts';
import { type EndpointClaim, isUserspace } from '../vf/claim.ts';
import { findEndpointClaims, readClaim, writeClaim } from '../vf/claims.ts';
import { awaitVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { dressForLoan } from '../vf/loan.ts';
import { findOnHost } from '../vf/netdev.ts';
import { wishOfEndpoint } from './endpoint-wish.ts';
import { type Network, readNetwork } from './networks.ts';
import type { EndpointCall, EndpointName, JoinCall } from './protocol.ts';
import { giveBackForgotten } from './forgotten.ts';

/** The dockerd that calls. */
export type Dockerd = EndpointClaim['owner']['dockerd'];

/**
 * CreateEndpoint: lends a VF. All the work is done here, since only this call brings the endpoint's own options and MAC, and an error of it
 * leaves nothing behind in Docker.
 */
export async function createEndpoint(
  host: Host,
  call: EndpointCall,
  dockerd: Dockerd,
  caller: Caller,
): Promise<object> {
  const { NetworkID: network, EndpointID: endpointId } = call;
  const phases = new Phases(uptimeMs());
  const { wish, join } = wishOfEndpoint(readNetwork(host, network), call);
  warnOfIgnored(host, call);
  const again = await withClaim(host, endpointId, async (claim, lock) => {
    if (claim.phase === 'lent' || claim.phase === 'joined') return answer(call, await macOf(host, claim));
    await release(host, claim, lock, caller);
    return undefined;
  });
  if (again) return again;
  // A container that died with dockerd, and starts again with its MAC, would find that in use.
  if (wish.settings.mac !== undefined) await giveBackForgotten(host, caller);
  phases.end('request');
  const owner = { kind: 'docker' as const, network, endpointId, bootId: host.bootId, dockerd };
  return answer(call, await lend(host, { owner, wish, join, caller }, phases));
}

/** A field that was given must not come back; a MAC that was not is worth telling, since Docker 28 announces the addresses only with one. */
function answer({ Interface }: EndpointCall, mac: string | undefined): object {
  const isNone = mac === undefined || mac === '00:00:00:00:00:00';
  return { Interface: Interface?.MacAddress || isNone ? {} : { MacAddress: mac } };
}

async function macOf(host: Host, claim: EndpointClaim): Promise<string | undefined> {
  return claim.asked.mac ?? (await findOnHost(host, claim.vf.pci))?.mac;
}

function warnOfIgnored(host: Host, { Options }: EndpointCall): void {
  const ports = Options?.['com.docker.network.portmap'];
  if (Array.isArray(ports) && ports.length > 0) host.log.warning(noPublishedPorts);
  if (Options?.['com.docker.network.endpoint.ifname'] !== undefined)
    host.log.warning(
      "an interface's name in the container has no effect: Docker tells only its own bridge driver",
    );
}

/** Join: tells Docker the netdev's name, which it moves into the container after the answer. */
export async function join(host: Host, { EndpointID, SandboxKey, NetworkID }: JoinCall): Promise<object> {
  const joined = await withClaim(host, EndpointID, async (claim) => {
    if (claim.phase !== 'lent' && claim.phase !== 'joined')
      throw new Failure('busy', `Endpoint ${EndpointID} is being given back`);
    const sandbox = { path: SandboxKey, ...identityOf(host, SandboxKey) };
    if (!isUserspace(claim)) await putNameRight(host, claim);
    const { owner } = claim;
    writeClaim(host, { ...claim, phase: 'joined', phaseMs: nowMs(), owner: { ...owner, sandbox } }, false);
    return answerOf(claim, readNetwork(host, NetworkID));
  });
  if (joined) return joined;
  throw new Failure('bad wish', `Endpoint ${EndpointID} is unknown: no VF was lent to it`);
}

/** udev names a netdev when it is added, which it was if its driver was reloaded for the MAC. */
async function putNameRight(host: Host, { vf, hostIfname, modes }: EndpointClaim): Promise<void> {
  const link = await findOnHost(host, vf.pci);
  if (!link) throw new Failure('busy', `The netdev of VF ${vf.pci} is not on the host any more`);
  if (link.ifname !== hostIfname) await dressForLoan(host, link, hostIfname, { mtu: undefined, modes });
}

/** The identity of a sandbox that is there: from Docker 28 on. @throws Failure `host netns` */
function identityOf(host: Host, path: string): { cookie?: string | undefined; inode?: number } {
  try {
    using netns = Netns.open(path);
    if (!isSameNetns(netns.identity, host.netns.identity)) return netns.identity;
  } catch (error) {
    if (error instanceof NotANetns || isErrno(error, Errno.ENOENT, Errno.ENOTDIR, Errno.EINVAL)) return {};
    throw error;
  }
  throw new Failure('host netns', `"${path}" is the host's own network namespace`);
}

/**
 * Without a gateway of ours Docker would add a second interface with a default route, on a bridge of its own; in an internal network it does
 * not, and there it would set the route even so.
 */
function answerOf(claim: EndpointClaim, { internal, gateway, gatewayV6 }: Network): object {
  const { prefix, hasGateway } = claim.join;
  const hasInterface = !isUserspace(claim);
  // Without an interface that leads there, Docker 20.10 refuses the gateway and with it the container.
  const [Gateway, GatewayIPv6] = hasInterface && hasGateway ? [gateway, gatewayV6] : [];
  const InterfaceName = { SrcName: claim.hostIfname, DstPrefix: prefix };
  return {
    ...(hasInterface && { InterfaceName }),
    Gateway,
    GatewayIPv6,
    DisableGatewayService: !internal && Gateway === undefined && GatewayIPv6 === undefined,
  };
}

/** Leave: the netdev is in the container still; Docker moves it back after the answer. */
export async function leave(host: Host, { EndpointID }: EndpointName): Promise<object> {
  await withClaim(host, EndpointID, (claim) => {
    if (claim.phase === 'lent' || claim.phase === 'joined')
      writeClaim(host, { ...claim, phase: 'leaving', phaseMs: nowMs() }, false);
  });
  return {};
}

/** DeleteEndpoint: gives the VF back, from wherever it is. Docker takes no error for an answer: what could not be done is tried again. */
export async function deleteEndpoint(
  host: Host,
  { EndpointID }: EndpointName,
  caller: Caller,
): Promise<object> {
  await withClaim(host, EndpointID, (claim, lock) => release(host, claim, lock, caller));
  return {};
}

/** EndpointOperInfo: nobody shows it, but dockerd's log at its debug level. */
export function operInfo(host: Host, { EndpointID }: EndpointName): object {
  const [claim] = findEndpointClaims(host, EndpointID);
  if (!claim) return { Value: {} };
  const { vf, asked } = claim;
  return { Value: { pci: vf.pci, pf: vf.pf.ifname ?? vf.pf.pci, vf: vf.index, vlan: asked.vlan?.id } };
}

/**
 * Works on an endpoint's claim under the VF's lock.
 * @returns undefined also if there is none
 */
async function withClaim<T>(
  host: Host,
  endpointId: string,
  work: (claim: EndpointClaim, lock: FileLock) => Promise<T> | T,
): Promise<T | undefined> {
  let result: T | undefined;
  for (const { vf } of findEndpointClaims(host, endpointId)) {
    using lock = await awaitVf(host, vf.pci);
    if (!lock) throw new Failure('busy', `VF ${vf.pci} is busy: another process is still working on it`);
    // Until we had the lock, somebody else may have given it back.
    const claim = readClaim(host, vf.pci);
    if (claim?.version === 2 && claim.owner.endpointId === endpointId) result = await work(claim, lock);
  }
  return result;
}
