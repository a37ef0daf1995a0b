import { Errno, isErrno, NotANetns } from '../kernel/errno.ts';
import { getLinkByName } from '../kernel/link.ts';
import { isSameNetns, Netns } from '../kernel/netns.ts';
import type { Claim } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { Failure } from './failure.ts';

/** Opens the namespace that a VF shall go into. @throws Failure `netns gone`, `host netns`; NotANetns */
export function openPodFor(host: Host, path: string): Netns {
  let pod: Netns;
  try {
    pod = Netns.open(path);
  } catch (error) {
    if (!isErrno(error, Errno.ENOENT, Errno.ENOTDIR)) throw error;
    const message = `Cannot find the network namespace "${path}": the container is gone`;
    throw new Failure('netns gone', message, undefined, { cause: error });
  }
  if (!isSameNetns(pod.identity, host.netns.identity)) return pod;
  pod[Symbol.dispose]();
  throw new Failure('host netns', `"${path}" is the host's own network namespace`);
}

/** @throws Failure `taken` */
export async function refuseTakenName(pod: Netns, ifname: string): Promise<void> {
  if (await getLinkByName(pod.rtnl, ifname)) throw takenName(ifname);
}

export function takenName(ifname: string): Failure {
  return new Failure(
    'taken',
    `Interface name "${ifname}" is taken: the pod has an interface of that name already`,
  );
}

/**
 * The pod's namespace, if it is still the one that the VF was attached to; undefined if it is gone.
 * @param elsewhere another path that may lead to it: a namespace can lose the name of the ADD (/proc/PID/ns/net) and live on under another
 */
export function openPodOf({ owner }: Claim, elsewhere = ''): Netns | undefined {
  if ('kind' in owner) return owner.sandbox && openSame(owner.sandbox.path, owner.sandbox);
  const { netns } = owner;
  return openSame(netns.path, netns) ?? openSame(elsewhere, netns);
}

/**
 * The namespace at a path, if it is the one that is meant.
 * @param identity as much of it as is known: Docker gives no second sandbox the path of a first
 */
function openSame(
  path: string,
  { cookie, inode }: { cookie?: string | undefined; inode?: number | undefined },
): Netns | undefined {
  if (path === '') return undefined;
  try {
    const netns = Netns.open(path);
    if (inode === undefined || isSameNetns(netns.identity, { cookie, inode })) return netns;
    netns[Symbol.dispose]();
    return undefined;
  } catch (error) {
    if (error instanceof NotANetns || isErrno(error, Errno.ENOENT, Errno.ENOTDIR, Errno.EINVAL))
      return undefined;
    throw error;
  }
}
