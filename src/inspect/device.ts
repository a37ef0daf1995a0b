import type { Holder } from '../kernel/holders.ts';
import type { Link } from '../kernel/link-message.ts';
import type { ShownRdma } from '../rdma/rdma-device.ts';
import type { Claim } from '../vf/claim.ts';
import type { Vf } from '../vf/inventory.ts';
import type { VfSettings } from '../vf/settings.ts';
import type { DeviceOwner } from './device-owner.ts';

/**
 * - free: an ADD can take it
 * - attached: a pod has it
 * - busy: an ADD or DEL is at work on it
 * - stale: its pod is gone; `sriov gc`, or the next ADD that wants it, gives it back
 * - held: its pod is gone, but something keeps it
 * - dpdk: bound to a userspace driver, and of no pod of ours
 * - foreign: the host itself or somebody else uses it
 * - unbound: it has no driver
 * - unreadable: its claim cannot be read
 * - gone: it does not exist any more, its claim does
 * - up, down: a PF that serves its VFs
 */
export type State =
  | 'free'
  | 'attached'
  | 'busy'
  | 'stale'
  | 'held'
  | 'dpdk'
  | 'foreign'
  | 'unbound'
  | 'unreadable'
  | 'gone'
  | 'up'
  | 'down';

/** A PF, VF or NIC of this host with all that is known about it. */
export interface Device {
  readonly vf: Vf;
  readonly isPf: boolean;
  readonly state: State;
  readonly why: string | undefined;
  readonly owner: DeviceOwner | undefined;
  /** When the owner got it, ISO 8601. */
  readonly since: string | undefined;
  /** The netdev, where it can be seen, and which namespace it is in; the host's is "". */
  readonly link: Link | undefined;
  readonly netns: string;
  readonly rdma: ShownRdma | undefined;
  /** What the PF has programmed now; undefined for PFs, and while the PF itself is out of sight. */
  readonly settings: VfSettings | undefined;
  readonly claim: Claim | undefined;
  /** What the PF had programmed before the owner got it. */
  readonly before: VfSettings | undefined;
  readonly holders: readonly Holder[];
}
