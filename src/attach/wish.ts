import type { DpdkWish } from '../dpdk/driver.ts';
import type { FileLock } from '../kernel/files.ts';
import type { IpConfig } from '../vf/addressing.ts';
import type { PodClaim } from '../vf/claim.ts';
import type { Modes } from '../vf/modes.ts';
import type { Pool } from '../vf/pool.ts';
import type { VfSettings } from '../vf/settings.ts';

/** What is attached: a given VF, a free one of a pool, or a PF itself. */
export type Device =
  | { readonly kind: 'vf'; readonly pci: string }
  | { readonly kind: 'pool'; readonly pool: Pool }
  | { readonly kind: 'pf'; readonly pf: string };

/** Two devices that are one interface of the pod. */
export interface BondWish {
  readonly devices: readonly [Device, Device];
  /** How often the driver looks for the links. */
  readonly miimonMs: number;
  /** Name or PCI address of the PF, or address of the device, of the one that is active whenever it can be. */
  readonly primary: string | undefined;
}

/** What a network wants of an attachment. */
export interface Wish {
  readonly network: string;
  /** Undefined where a device plugin's choice is still to come: STATUS is asked before there is a pod. */
  readonly device: Device | undefined;
  /** Instead of one device. */
  readonly bond?: BondWish | undefined;
  /** Undefined: the VF is for the kernel, unless it is on a userspace driver already. */
  readonly dpdk: DpdkWish | undefined;
  /** Whether the VF must have an RDMA device; false: it shall stay on the host; undefined: it goes along where it has to. */
  readonly rdma: boolean | undefined;
  /** Folders of the plugins that may come after us in a chain: rdma-cni among them moves the RDMA device itself. */
  readonly pluginPath?: string | undefined;
  /** What is asked of the PF; rates as given, see {@link wantedSettings}. */
  readonly settings: Omit<VfSettings, 'rateMbps'>;
  readonly minTxRate: number | undefined;
  readonly maxTxRate: number | undefined;
  readonly mtu: number | undefined;
  /** How the netdev listens in the pod. */
  readonly modes?: Modes | undefined;
  /** Reset the VF (FLR) when it is given back. */
  readonly reset?: boolean | undefined;
  /** Name of the interface in the pod. */
  readonly podIfname: string;
  /** Where to tell about the device. */
  readonly deviceInfoFile: string | undefined;
  /** "namespace/name", where the runtime told it. */
  readonly pod: string | undefined;
  /** What routers on the network may give the interface by IPv6 advertisements; undefined: addresses and routes, as the kernel has it. */
  readonly routersGive?: 'routes' | 'nothing' | undefined;
  /** What its user calls the container, where it has a name. */
  readonly containerName?: string | undefined;
}

/** The wish for each device: one, or two of a bond. */
export function wishesOf(wish: Wish): readonly [Wish, ...Wish[]] {
  if (!wish.bond) return [wish];
  const [first, second] = wish.bond.devices;
  return [
    { ...wish, bond: undefined, device: first },
    { ...wish, bond: undefined, device: second },
  ];
}

/** What to program: rates are one attribute to the kernel, so the one that was not asked for stays what it is. */
export function wantedSettings({ minTxRate, maxTxRate, settings }: Wish, is: VfSettings): VfSettings {
  if (minTxRate === undefined && maxTxRate === undefined) return settings;
  const rateMbps = { min: minTxRate ?? is.rateMbps?.min ?? 0, max: maxTxRate ?? is.rateMbps?.max ?? 0 };
  return { ...settings, rateMbps };
}

/** Who calls, and what it brings along. */
export interface Caller {
  /** The environment, for the IPAM plugin; its CNI_PATH, where there is one, comes before the one of the ADD. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where the pod's namespace is now; the path of the ADD may have been another one. "" if it is not said. */
  readonly netns?: string;
  /** The network configuration as the caller has it, which can say more of the IPAM than what was saved, or less. */
  readonly request?: PodClaim['request'];
}

/** Set for the IPAM plugin and all that it calls: if that is us again, it would go on so without end. */
export const withinIpamCall = 'SRIOV_WITHIN_IPAM_CALL';

/** An attachment as a runtime names it. */
export interface Attachment {
  readonly containerId: string;
  /** Path of the pod's network namespace; "" where the runtime gives none (DEL of a dead pod). */
  readonly netns: string;
  /** The interface as the runtime names it, which need not be its name in the pod. */
  readonly ifname: string;
}

/**
 * Asks for an attachment's addresses, early where the answer cannot depend on the interface. Called under the VF's lock, which a
 * program that is started keeps.
 */
export type AddressSource<A extends IpConfig> = (lock: FileLock) => PendingAddresses<A>;

/** Addresses on their way. Disposing waits for what is not wanted any more: a lease can be freed only when it has been written. */
export interface PendingAddresses<A extends IpConfig> extends Disposable {
  /** Waits. */
  result(): A | Promise<A>;
}

/** One attachment as a front door orders it. */
export interface Order<A extends IpConfig> {
  readonly attachment: Attachment;
  readonly wish: Wish;
  readonly addresses: AddressSource<A> | undefined;
  /** What frees the addresses again. */
  readonly request: PodClaim['request'];
  readonly caller: Caller;
}
