import { detach } from '../attach/detach.ts';
import type { Attachment, Caller } from '../attach/wish.ts';
import type { Host } from '../vf/host.ts';

/**
 * `teardown`: gives back the VF of a container, from its claim. Podman repeats no teardown, and takes a container that starts again for
 * the same one: should a killed setup have left a second claim of it, that goes, too. Without a claim there is nothing to do.
 */
export async function teardown(host: Host, attachment: Attachment, caller: Caller): Promise<void> {
  if (!(await detach(host, attachment, caller))) host.log.info('nothing to give back');
}
