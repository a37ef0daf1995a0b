import { boundDriver, driverOverride, setDriverOverride } from '../kernel/pci-driver.ts';
import { nothingElse, startDriver } from '../vf/carried-mac.ts';
import { type Claim, isUserspace } from '../vf/claim.ts';
import type { Host } from '../vf/host.ts';
import { type Vf, vfName } from '../vf/inventory.ts';
import { findOnHost } from '../vf/netdev.ts';
import { restoreNetdev } from '../vf/netdev-restore.ts';
import {
  applySettings,
  awaitSettings,
  changes,
  flat,
  restorable,
  SettingRefused,
  unknownBefore,
  type VfSettings,
} from '../vf/settings.ts';

/**
 * Brings the PF's settings back, but only those that differ: some drivers pin a MAC by any write.
 * @param kept what the PF had beside them before the VF was reset
 */
export async function restorePf(
  host: Host,
  claim: Claim,
  vf: Vf,
  kept: VfSettings | undefined,
): Promise<void> {
  const hasNetdev = claim.original.netdev !== undefined && !isUserspace(claim);
  const wanted = { ...kept, ...restorable(claim.original.settings, claim.asked, hasNetdev) };
  const unknown = unknownBefore(claim.original.settings, claim.asked);
  if (Object.keys({ ...wanted, ...unknown }).length === 0) return;
  const { pf, settings: now } = await awaitSettings(host, vf);
  const restore = async (settings: VfSettings) => {
    if (Object.keys(settings).length === 0) return;
    const fields = { vf: vf.pci, pf: vf.pf.ifname, ...flat(settings) };
    await host.log.change('PF settings restored', fields, () =>
      applySettings(host.netns.rtnl, pf.ifindex, vf, settings),
    );
  };
  await restore(changes(now, wanted));
  try {
    await restore(unknown);
  } catch (error) {
    // The ADD failed for the same reason: such a driver has no such setting.
    if (!(error instanceof SettingRefused)) throw error;
    host.log.debug('not a setting of this driver', { vf: vf.pci, error: error.message });
  }
}

/** Binds the VF to the driver that it had, where it has none, and makes its netdev, and the RDMA device that comes with it, what they were. */
export async function restoreNetdevOf(host: Host, claim: Claim, vf: Vf): Promise<void> {
  const { rdma, original } = claim;
  const { netdev, driver } = original;
  if (!netdev) return;
  const moves = rdma && (await import('../rdma/rdma-move.ts'));
  const around = rdma && moves ? moves.keepingRdma(host, vf.pci, rdma) : nothingElse;
  // It has none after a userspace driver, or an ADD that died while it reloaded it; bound now, it takes its MAC from the restored PF.
  const bound = boundDriver(host.sys, vf.pci);
  const link =
    bound === undefined && driver !== undefined
      ? await around(() => startDriver(host, vf, driver))
      : await findOnHost(host, vf.pci);
  if (!link) throw new Error(`Cannot restore the netdev of ${vfName(vf)}: it is not on the host`);
  const fields = { vf: vf.pci, hostIfname: netdev.ifname, mac: netdev.mac, mtu: netdev.mtu };
  await host.log.change('netdev restored', fields, () =>
    restoreNetdev(host, { ...vf, driver: bound ?? driver }, link, netdev, around),
  );
  if (rdma) await moves?.restoreRdma(host, vf.pci, rdma);
}

/** An operator's own driver_override, which is in the way of ours and of the VF's driver until now. */
export function restoreOverride({ sys }: Host, { vf, dpdk }: Claim): void {
  if (driverOverride(sys, vf.pci) !== dpdk?.override) setDriverOverride(sys, vf.pci, dpdk?.override);
}
