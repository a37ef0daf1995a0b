import type { Fields } from '../kernel/log.ts';
import type { Claim } from './claim.ts';

/** "pod ns/name (container ID)", "container NAME (ID)", or the container's id where no name was told; "endpoint ID of Docker's" likewise. */
export function ownerName({ owner }: Claim): string {
  if ('kind' in owner) {
    const { container, endpointId } = owner;
    return container ? `container ${container.name} (${container.id})` : `Docker's endpoint ${endpointId}`;
  }
  const { pod, containerName, containerId } = owner;
  if (pod !== undefined) return `pod ${pod} (container ${containerId})`;
  return containerName === undefined
    ? `container ${containerId}`
    : `container ${containerName} (${containerId})`;
}

/** What the one who asked is told apart by from all others. */
export function ownerId({ owner }: Claim): string {
  return 'kind' in owner ? owner.endpointId : owner.containerId;
}

/** Whose it is, as fields of a log line. */
export function ownerFields({ owner }: Claim): Fields {
  if ('kind' in owner) return { endpoint: owner.endpointId, containerID: owner.container?.id };
  return { containerID: owner.containerId, ifname: owner.ifname };
}

/** Where its netdev was put, or is being put; "" as long as nobody knows. */
export function placeOf({ owner }: Claim): string {
  return 'kind' in owner ? (owner.sandbox?.path ?? '') : owner.netns.path;
}

/** What its netdev is called there, or was when it was put there: Docker numbers interfaces itself, and tells nobody. */
export function ifnameThere(claim: Claim): string {
  return claim.version === 1 ? claim.podIfname : claim.hostIfname;
}
