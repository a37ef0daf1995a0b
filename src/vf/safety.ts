import type { Link } from '../kernel/link-message.ts';
import { IFF_UP } from '../kernel/link-message.ts';
import { vfInfosOf } from '../kernel/link.ts';
import type { Claim } from './claim.ts';
import { readClaimOrLog } from './claims.ts';
import type { Host } from './host.ts';
import { devicePath, NotUsable, pfName, type Vf } from './inventory.ts';
import { ownerId } from './owner.ts';
import { readSettings, type VfSettings } from './settings.ts';

/**
 * In switchdev mode a VF talks to the network through its representor, which somebody has to wire: without that it is dead, and most
 * drivers refuse the PF's VF settings. In legacy mode ports can have a switch id, too (ice, mlx5_core, netdevsim): devlink tells the mode.
 * @throws NotUsable, KernelError
 */
export async function refuseSwitchdev(host: Host, vf: Vf, pf: Link): Promise<void> {
  if (!pf.isSwitchPort) return;
  const { isSwitchdev } = await import('../kernel/devlink.ts');
  if (!(await isSwitchdev(host.netns, { bus: 'pci', device: vf.pf.pci }))) return;
  throw new NotUsable(
    `${pfName(vf.pf)} is in switchdev mode: this plugin serves legacy mode ` +
      `(devlink dev eswitch set pci/${vf.pf.pci} mode legacy); for switchdev use ovs-cni or accelerated-bridge-cni`,
  );
}

/** A VF's link follows its PF's on most cards. The PF may come up later, so this is worth a line and no refusal. */
export function warnOfDownPf(host: Host, vf: Vf, pf: Link): void {
  if (!(pf.flags & IFF_UP))
    host.log.warning(`${pfName(vf.pf)} is down: its VFs may have no carrier (ip link set ${pf.ifname} up)`, {
      vf: vf.pci,
    });
}

/** Most PFs go on filtering for a VF that they do not trust, without a word; the netdev then only says that it is promiscuous. */
export function warnOfNoTrust(host: Host, vf: Vf, trust: boolean | undefined): void {
  if (trust === false)
    host.log.warning(
      `${pfName(vf.pf)} may go on filtering for its VF: "promisc" and "allmulti" need "trust": "on"`,
      {
        vf: vf.pci,
      },
    );
}

/**
 * Looks for the wanted MAC on another VF of the PF in the same VLAN, where the card would deliver to only one of them. A pod that starts
 * again on another VF meets its own old one: that is about to be given back, so trying again helps. A VF without a claim can be a bond's or a
 * virtual machine's, which may want it so.
 * @param asker ownerId() of whoever wants it
 * @returns the claim of whoever else has the MAC; undefined if nobody has
 */
export function ownerOfSameMac(
  host: Host,
  vf: Vf,
  pf: Link,
  wanted: VfSettings,
  asker: string,
): Claim | undefined {
  for (const info of vfInfosOf(pf)) {
    const { mac, vlan } = readSettings(info);
    const index = info.mac?.vf;
    if (index === vf.index || mac !== wanted.mac || (vlan?.id ?? 0) !== (wanted.vlan?.id ?? 0)) continue;
    const pci = host.sys.linkName(`${devicePath(vf.pf.pci)}/virtfn${index}`);
    const claim = pci === undefined ? undefined : readClaimOrLog(host, pci);
    if (claim && ownerId(claim) !== asker) return claim;
    host.log.warning(`VF ${index} of ${pfName(vf.pf)} has MAC ${mac}, too`, {
      vf: vf.pci,
      owner: claim && ownerId(claim),
    });
  }
  return undefined;
}
