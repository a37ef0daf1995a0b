import * as z from 'zod/mini';
import { isObject, parseJson } from '../kernel/json.ts';

/** An object of any keys. zod's record() would look at each key by itself, in every DEL. */
function objectOf<T>(isValue: (value: unknown) => boolean) {
  return z.custom<Readonly<Record<string, T>>>(
    (value) => isObject(value) && Object.values(value).every(isValue),
  );
}

const settings = z.object({
  mac: z.optional(z.string()),
  vlan: z.optional(z.object({ id: z.int(), qos: z.int(), proto: z.enum(['802.1q', '802.1ad']) })),
  rateMbps: z.optional(z.object({ min: z.int(), max: z.int() })),
  spoofchk: z.optional(z.boolean()),
  linkState: z.optional(z.enum(['auto', 'enable', 'disable'])),
  trust: z.optional(z.boolean()),
});

const netdev = z.object({
  ifname: z.string(),
  altnames: z.readonly(z.array(z.string())),
  mac: z.string(),
  mtu: z.int(),
  /** Claims of older versions do not have it. */
  alias: z.optional(z.string()),
  promisc: z.boolean(),
  allmulti: z.boolean(),
  /** Only of NICs: the MAC that it was born with. */
  permMac: z.optional(z.string()),
});

/** The network namespace and attachment that a VF belongs to. */
const podOwner = z.object({
  network: z.string(),
  containerId: z.string(),
  ifname: z.string(),
  netns: z.object({ path: z.string(), cookie: z.optional(z.string()), inode: z.int() }),
  bootId: z.string(),
  /** Where the runtime told it: K8S_POD_NAMESPACE/NAME. */
  pod: z.optional(z.string()),
  /** What its user calls the container. */
  containerName: z.optional(z.string()),
});

/** Docker's endpoint that a VF belongs to: Docker itself moves the netdev, and tells neither container nor, before it starts, namespace. */
const endpointOwner = z.object({
  kind: z.literal('docker'),
  /** Docker's id, and its name where Docker was asked. */
  network: z.string(),
  networkName: z.optional(z.string()),
  endpointId: z.string(),
  bootId: z.string(),
  /** Where the container's namespace is or, before Docker 28, will be; known from Join on. Its identity only if it was there then. */
  sandbox: z.optional(
    z.object({ path: z.string(), cookie: z.optional(z.string()), inode: z.optional(z.int()) }),
  ),
  /** The dockerd that asked for it, where that can be told: process id, and when that started, in clock ticks since the boot. */
  dockerd: z.optional(z.object({ pid: z.int(), started: z.string() })),
  /** Where Docker was asked. */
  container: z.optional(z.object({ id: z.string(), name: z.string() })),
});

/** What the claims of all doors have. */
const common = {
  /** ISO 8601 */
  since: z.string(),
  vf: z.object({
    pci: z.string(),
    index: z.int(),
    pf: z.object({ pci: z.string(), ifname: z.optional(z.string()) }),
  }),
  /** Userspace drives the VF, with this kernel driver: a userspace driver, or the kernel's own where DPDK works on that. */
  dpdk: z.optional(z.object({ driver: z.string(), override: z.optional(z.string()) })),
  /** The RDMA device that comes with the VF, as it was before the first change. */
  rdma: z.optional(
    z.object({
      name: z.string(),
      /** The kernel's number of it, where it is known. */
      index: z.optional(z.int()),
      /** Names in /dev/infiniband. */
      files: z.readonly(z.array(z.string())),
      /** Whether it goes into the pod, as it does where each network namespace has RDMA devices of its own. */
      moves: z.boolean(),
    }),
  ),
  /** What was asked of the PF. */
  asked: settings,
  /** What was asked of the netdev. */
  modes: z.optional(z.object({ promisc: z.optional(z.boolean()), allmulti: z.optional(z.boolean()) })),
  /** The VF is to be reset when it is given back. */
  reset: z.optional(z.boolean()),
  /** What the VF was like before the first change. */
  original: z.object({ driver: z.optional(z.string()), settings, netdev: z.optional(netdev) }),
  /** Milliseconds per phase of the ADD, for `sriov inspect`. */
  times: z.optional(objectOf<number>((value) => typeof value === 'number')),
};

/** docs/state.md is checked against it. */
export const podClaimSchema = z.object({
  version: z.literal(1),
  /** adding: an ADD is changing the VF, or died doing so. releasing: likewise, giving it back. */
  phase: z.enum(['adding', 'attached', 'releasing']),
  owner: podOwner,
  /** Name of the netdev in the pod: the attachment's ifname, unless the network has its own. */
  podIfname: z.string(),
  /** It is one of the two slaves of a bond in the pod: the bond's name there, and the other one. Each of the two has a claim. */
  bond: z.optional(z.object({ ifname: z.string(), other: z.string() })),
  /** The device-info file that was made. */
  deviceInfoFile: z.optional(z.string()),
  /** The call that made it, for the IPAM plugin's DEL: a later stdin may be stripped, and recovery has none. */
  request: z.object({
    config: objectOf<unknown>(() => true),
    cniArgs: z.string(),
    cniPath: z.string(),
  }),
  /** Nobody knows whether there is an address: the IPAM plugin refused to give one. */
  isAddressUncertain: z.optional(z.boolean()),
  ...common,
});

const endpointClaimSchema = z.object({
  version: z.literal(2),
  /** lent: on the host, ready for Docker to take it. joined: Docker has been told its name. leaving: Docker has said that it takes it back. */
  phase: z.enum(['adding', 'lent', 'joined', 'leaving', 'releasing']),
  /** When it came into this phase, by the clock of system.nowMs(), which begins anew with each boot and never jumps. */
  phaseMs: z.number(),
  owner: endpointOwner,
  /** Name of the netdev while it is on the host. */
  hostIfname: z.string(),
  /** What Join will answer. */
  join: z.object({ prefix: z.string(), hasGateway: z.boolean() }),
  ...common,
});

/** The claim of an attachment by CNI or Podman. */
export type PodClaim = z.infer<typeof podClaimSchema>;
/** The claim of an endpoint of Docker's. */
export type EndpointClaim = z.infer<typeof endpointClaimSchema>;
/**
 * The record of one VF that is somebody's: whose it is, and what it was like before. Exists from before the first change until the last undo.
 * Version 1 is what executables before the Docker driver read, too; version 2 they keep their hands off.
 */
export type Claim = PodClaim | EndpointClaim;

/** The latest version of a claim that this program reads. */
const latestVersion = 2;

/** Whether a claim is of an attachment by CNI or Podman. */
export function isOf(claim: Claim, containerId: string, ifname: string): claim is PodClaim {
  return claim.version === 1 && claim.owner.containerId === containerId && claim.owner.ifname === ifname;
}

/** Whether it was given out for a process to drive it, and not the kernel through a netdev in the pod. */
export function isUserspace({ dpdk, original }: Claim): boolean {
  return dpdk !== undefined && (dpdk.driver !== original.driver || original.netdev === undefined);
}

/** A claim whose file cannot be read as one. */
export class UnreadableClaim extends Error {
  override readonly name: string = 'UnreadableClaim';
}

/** A claim that a later version of this program wrote: it is kept, and its VF is nobody else's. */
export class LaterClaim extends UnreadableClaim {
  override readonly name = 'LaterClaim';
  /** The file as it is. */
  readonly text: string;

  constructor(path: string, version: number, text: string) {
    super(`The claim ${path} is of a later version of this program (version ${version} of the format)`);
    this.text = text;
  }
}

/** What was read last. A DEL reads its claim before it has the VF's lock and after: nearly always it is the same text. */
let latest: { readonly text: string; readonly claim: Claim } | undefined;

/** Reads a claim or what has a claim in it. @throws UnreadableClaim, LaterClaim */
export function parseClaim(path: string, text: string): Claim {
  if (latest?.text !== text) latest = { text, claim: parseNewClaim(path, text) };
  return latest.claim;
}

function parseNewClaim(path: string, text: string): Claim {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new UnreadableClaim(`Cannot read the claim ${path}: it is not JSON`, { cause });
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > latestVersion) throw new LaterClaim(path, version, text);
  const parsed = (version === 2 ? endpointClaimSchema : podClaimSchema).safeParse(value);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues.map(({ path: keys }) => keys.join('.')).join(', ');
  throw new UnreadableClaim(`Cannot read the claim ${path}: wrong or missing: ${where || 'all of it'}`);
}
