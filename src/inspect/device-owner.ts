import type { GoAttachment } from '../attach/go-cache.ts';
import type { Claim } from '../vf/claim.ts';
import { placeOf } from '../vf/owner.ts';

/** Whose a VF is. */
export interface DeviceOwner {
  /** NAMESPACE/NAME, where the runtime told it. */
  readonly pod: string | undefined;
  /** What its user calls the container, where it has a name. */
  readonly containerName?: string | undefined;
  readonly containerId: string | undefined;
  /** Docker's endpoint. */
  readonly endpointId?: string | undefined;
  /** Name of the interface in the pod. */
  readonly ifname: string | undefined;
  readonly network: string | undefined;
  readonly netns: string;
  /** Whose record says so: ours, or the Go plugin's. */
  readonly by: 'sriov' | 'Go plugin';
}

/** The shortest name by which an operator knows the owner. */
export function nickname(owner: DeviceOwner | undefined): string | undefined {
  return owner?.pod ?? owner?.containerName ?? owner?.containerId ?? owner?.endpointId;
}

export function ownerOf(claim: Claim): DeviceOwner {
  const { owner } = claim;
  const netns = placeOf(claim);
  if ('kind' in owner) {
    const { network, networkName = network, container, endpointId } = owner;
    const whose = { containerName: container?.name, containerId: container?.id, endpointId };
    return { pod: undefined, ...whose, network: networkName, netns, ifname: undefined, by: 'sriov' };
  }
  const { pod, containerName, containerId, network } = owner;
  const ifname = claim.version === 1 ? (claim.bond?.ifname ?? claim.podIfname) : undefined;
  return { pod, containerName, containerId, network, netns, ifname, by: 'sriov' };
}

/** All that is known of whose a VF is that the Go plugin has put somewhere without a record. */
export const unknownGoOwner = {
  pod: undefined,
  containerId: undefined,
  containerName: undefined,
  network: undefined,
  by: 'Go plugin',
} as const;

export function goOwner({ containerId, ifname, network }: GoAttachment, netns: string): DeviceOwner {
  return { ...unknownGoOwner, containerId, ifname, network, netns };
}
