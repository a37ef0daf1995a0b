import { type FileLock, removeFile } from '../kernel/files.ts';
import { nowMs } from '../kernel/clock.ts';
import { getLinkWithVfs, IFF_UP, type Link, setLink } from '../kernel/link.ts';
import { Phases, tenths } from '../kernel/log.ts';
import {
  boundDriver,
  driverOverride,
  hasFlr,
  resetDevice,
  setDriverOverride,
  unbindWithin,
} from '../kernel/pci-driver.ts';
import { type Claim, isUserspace, removeClaim, writeClaim } from '../vf/claims.ts';
import { describeHolders, holdersOf } from '../vf/holders.ts';
import type { Host } from '../vf/host.ts';
import { isWholePf, readDevice, type Vf, vfName } from '../vf/inventory.ts';
import { awaitOnHost, findInPod, findOnHost, moveToHost, restoreNetdev, startDriver } from '../vf/netdev.ts';
import { applySettings, changes, readSettings, restorable } from '../vf/settings.ts';
import { openPod } from '../vf/standing.ts';
import { toCniError } from './error-codes.ts';
import { Code, CniError } from './errors.ts';
import { finishIpam, type IpamCall, ipamCall, needsInterfaceAtDel, startIpam } from './ipam.ts';

/** Somebody still holds the VF: nothing may be given back, or a tenant would sit on the untagged network. */
export class StillHeld extends CniError {
  constructor(message: string) {
    super(Code.TryAgainLater, message);
  }
}

/**
 * Undoes everything that an ADD did or may have done, under the VF's lock: the body of DEL, of every rollback and of every recovery. It
 * looks at what is, not at how far the ADD believed to have come; each step tolerates that there is nothing to undo, and goes on after a
 * failure. The claim goes last, and only if everything was undone.
 *
 * Order: the netdev leaves the pod, or the VF its userspace driver, first (nobody may use the VF any more); then the PF's settings; then
 * the netdev's own MAC, which drivers refuse while the PF has another one; the IPAM plugin frees the address as soon as nobody can use it,
 * beside the rest. Only "dhcp" frees it before everything else, see {@link needsInterfaceAtDel}.
 * @throws StillHeld; CniError 102 naming all that could not be undone
 */
export async function release(
  caller: Host,
  claim: Claim,
  lock: FileLock,
  env: IpamCall['env'],
): Promise<void> {
  const { pci } = claim.vf;
  // Whoever calls: what is changed here is the claim's attachment.
  const log = caller.log.about({ containerID: claim.owner.containerId, ifname: claim.owner.ifname });
  const host = { ...caller, log };
  const begin = nowMs();
  const phases = new Phases();
  phases.end('before');
  const failures: unknown[] = [];
  const attempt = async (step: () => Promise<void> | void) => {
    try {
      await step();
    } catch (error) {
      failures.push(error);
      log.error('undo failed', { vf: pci, error: String(error) });
    }
  };

  if (claim.phase !== 'releasing') writeClaim(host, { ...claim, phase: 'releasing' }, false);
  const isRebooted = claim.owner.bootId !== host.bootId;
  // After a reboot the VF is as the boot left it, whatever we know of the one before.
  const vf = isRebooted ? undefined : readDevice(host.sys, pci);
  const freesEarly = needsInterfaceAtDel(claim.request.config);
  if (freesEarly) await attempt(startFreeingAddress(host, claim, lock, env, failures));
  // As long as the VF is in the pod, nothing else may be undone.
  if (vf) await (isUserspace(claim) ? leaveUserspace(host, claim, vf, lock) : leavePod(host, claim, vf));
  phases.end('leave');
  const finishAddress = freesEarly ? () => {} : startFreeingAddress(host, claim, lock, env, failures);
  if (vf) {
    if (!isWholePf(vf)) await attempt(() => restorePf(host, claim, vf));
    phases.end('settings');
    await attempt(() => restoreNetdevOf(host, claim, vf));
    if (claim.dpdk) await attempt(() => restoreOverride(host, claim));
    phases.end('netdev');
  }
  await attempt(finishAddress);
  phases.end('ipam');
  const { deviceInfoFile } = claim;
  if (deviceInfoFile !== undefined) await attempt(() => removeFile(deviceInfoFile));

  if (failures.length > 0) {
    const left = failures.map((failure) => toCniError(failure).message);
    throw new CniError(
      Code.RollbackIncomplete,
      `Cannot give back VF ${pci} completely: ${left.join('; ')}`,
      left.join('\n'),
    );
  }
  removeClaim(host, pci, lock);
  phases.end('claim');
  log.info('VF given back', { vf: pci, ms: tenths(nowMs() - begin) });
  log.debug('phases in ms', phases.ms);
}

/** Takes the netdev down and back to the host. @throws StillHeld if it is in neither namespace */
async function leavePod(host: Host, claim: Claim, vf: Vf): Promise<void> {
  const { netdev } = claim.original;
  if (!netdev || vf.driver === undefined) return;
  if (claim.dpdk) refuseHeld(host, vf);
  using pod = openPod(claim);
  const inPod = pod && (await findInPod(pod, vf.pci, claim.podIfname));
  if (pod && inPod) {
    const fields = { vf: vf.pci, hostIfname: netdev.ifname };
    const name = await host.log.change('netdev moved back to the host', fields, () =>
      moveToHost(host, pod, inPod, netdev.ifname),
    );
    if (name !== netdev.ifname)
      host.log.warning('its host name is taken', {
        vf: vf.pci,
        hostIfname: netdev.ifname,
        newHostIfname: name,
      });
    return;
  }
  // A dying namespace gives its links back some 100 ms after its name is gone.
  const onHost = (await findOnHost(host, vf.pci)) ?? (await awaitOnHost(host, vf.pci));
  if (!onHost) {
    throw new StillHeld(
      `The netdev of ${vfName(vf)} is neither in "${claim.owner.netns.path}" nor on the host: something still holds its namespace`,
    );
  }
  if (onHost.flags & IFF_UP) {
    await setLink(host.netns.rtnl, `take ${onHost.ifname} down`, onHost.ifindex, { clearFlags: IFF_UP });
  }
}

/** @throws StillHeld if a process drives the VF: it would go on, on the untagged network */
function refuseHeld(host: Host, vf: Vf): void {
  const holders = holdersOf(host.sys, vf.pci);
  if (holders.length === 0) return;
  throw new StillHeld(
    `${vfName(vf)} is still in use: ${describeHolders(holders)} has it open; it is given back when that process has ended`,
  );
}

/** How long the kernel may wait for whoever has the VF open although no process of /proc shows it. */
const unbindTimeoutMs = 5_000;

/** Takes the VF from the userspace driver that we bound it to, and resets it. @throws StillHeld */
async function leaveUserspace(host: Host, claim: Claim, vf: Vf, lock: FileLock): Promise<void> {
  const { sys, log } = host;
  const { pci } = vf;
  const { driver } = claim.dpdk ?? {};
  if (vf.driver === driver) refuseHeld(host, vf);
  if (driver === claim.original.driver) return; // it was on it before
  if (vf.driver === driver) {
    const isUnbound = await log.change('VF taken from its userspace driver', { vf: pci, driver }, () =>
      unbindWithin(sys, pci, unbindTimeoutMs, lock.fd),
    );
    if (!isUnbound) {
      throw new StillHeld(
        `${vfName(vf)} is still in use: its driver ${driver} does not let it go within ${unbindTimeoutMs} ms; it is given back when whoever has it open has ended`,
      );
    }
  }
  if (driverOverride(sys, pci) !== undefined) setDriverOverride(sys, pci, undefined);
  if (boundDriver(sys, pci) !== undefined || !hasFlr(sys, pci)) return;
  try {
    await log.change('VF reset', { vf: pci }, () => resetDevice(sys, pci));
  } catch (error) {
    log.warning('the VF could not be reset', { vf: pci, error: String(error) });
  }
}

/** An operator's own driver_override, which is in the way of ours and of the VF's driver until now. */
function restoreOverride({ sys }: Host, { vf, dpdk }: Claim): void {
  if (driverOverride(sys, vf.pci) !== dpdk?.override) setDriverOverride(sys, vf.pci, dpdk?.override);
}

async function readPfLink(host: Host, vf: Vf): Promise<Link | undefined> {
  return vf.pf.ifname === undefined ? undefined : getLinkWithVfs(host.netns.rtnl, vf.pf.ifname);
}

/** Brings the PF's settings back, but only those that differ: some drivers pin a MAC by any write. */
async function restorePf(host: Host, claim: Claim, vf: Vf): Promise<void> {
  const pf = await readPfLink(host, vf);
  const info = pf?.vfs[vf.index];
  if (!pf || !info)
    throw new Error(`Cannot restore the settings of ${vfName(vf)}: its PF has no netdev on the host`);
  const settings = changes(
    readSettings(info),
    restorable(
      claim.original.settings,
      claim.asked,
      claim.original.netdev !== undefined && !isUserspace(claim),
    ),
  );
  if (Object.keys(settings).length === 0) return;
  const fields = { vf: vf.pci, pf: vf.pf.ifname, ...flat(settings) };
  await host.log.change('PF settings restored', fields, () =>
    applySettings(host.netns.rtnl, pf.ifindex, vf, settings),
  );
}

/** Settings as fields of a log line. */
export function flat(settings: object): Record<string, string> {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  return Object.fromEntries(
    Object.entries(settings).flatMap(([key, value]) => (value === undefined ? [] : [[key, text(value)]])),
  );
}

async function restoreNetdevOf(host: Host, claim: Claim, vf: Vf): Promise<void> {
  const { netdev, driver } = claim.original;
  if (!netdev) return;
  // It has none after a userspace driver, or an ADD that died while it reloaded it; bound now, it takes its MAC from the restored PF.
  const bound = boundDriver(host.sys, vf.pci);
  const link =
    bound === undefined && driver !== undefined
      ? await startDriver(host, vf, driver)
      : await findOnHost(host, vf.pci);
  if (!link) throw new Error(`Cannot restore the netdev of ${vfName(vf)}: it is not on the host`);
  const fields = { vf: vf.pci, hostIfname: netdev.ifname, mac: netdev.mac, mtu: netdev.mtu };
  await host.log.change('netdev restored', fields, () =>
    restoreNetdev(host, { ...vf, driver: bound ?? driver }, link, netdev),
  );
}

/** Starts the IPAM plugin's DEL beside the kernel's work, with the configuration of the ADD; the returned function waits for it. */
function startFreeingAddress(
  host: Host,
  claim: Claim,
  lock: FileLock,
  env: IpamCall['env'],
  failures: unknown[],
): () => void {
  const { config, cniArgs, cniPath } = claim.request;
  const { containerId, ifname, netns } = claim.owner;
  try {
    const call = ipamCall(config, { containerId, ifname, netns: netns.path, cniArgs, cniPath }, env);
    if (!call) return () => {};
    const child = startIpam('DEL', call, lock);
    return () => {
      finishIpam('DEL', call, child);
      host.log.info('addresses freed', { vf: claim.vf.pci, ipam: call.plugin });
    };
  } catch (error) {
    failures.push(error);
    return () => {};
  }
}
