import { exhausted, refuseBusyPf, unfit } from '../attach/choose.ts';
import { Failure } from '../attach/failure.ts';
import { refusePfSettings } from '../attach/netdev-only.ts';
import type { Wish } from '../attach/wish.ts';
import { Code, CniError } from '../cni/errors.ts';
import type { Host } from '../vf/host.ts';
import { findDevice, findPf, isNic, NotUsable, type Vf, vfName, wholePf } from '../vf/inventory.ts';
import { candidates, type Pool } from '../vf/pool.ts';
import { nickname } from './device-owner.ts';
import type { Device } from './device.ts';
import { survey } from './survey.ts';

/** Chooses as an ADD would, but takes nothing. @throws CniError; NotUsable */
export async function chooseDry(
  host: Host,
  wish: Wish,
  getsDevice: boolean,
  notes: string[],
  taken: readonly string[],
): Promise<Vf | undefined> {
  const { device: asked } = wish;
  switch (asked?.kind) {
    case 'vf':
      findDevice(host.sys, asked.pci);
      return named(await survey(host), asked.pci, notes);
    case 'pf': {
      const pf = wholePf(findPf(host.sys, asked.pf));
      const devices = await survey(host);
      named(devices, pf.pci, notes);
      // It puts aside what it cannot read.
      if (!devices.some(({ state }) => state === 'unreadable')) await refuseBusyPf(host, pf);
      return pf;
    }
    case 'pool':
      return pooled(host, asked.pool, wish, notes, taken);
    case undefined:
      if (getsDevice) {
        notes.push('Multus will add the device that the device plugin chooses: --device VF checks one');
        return undefined;
      }
      throw new CniError(
        Code.InvalidConfig,
        'Invalid network configuration: it names no device: "deviceID" is usually put there by Multus, ' +
          'for a NetworkAttachmentDefinition with the annotation k8s.v1.cni.cncf.io/resourceName ' +
          '(--device VF checks as if it had); "pf" takes a free VF without a device plugin',
      );
  }
}

/**
 * A device that is asked for by its address: whoever has it must not have it any more.
 * @throws CniError 11
 */
function named(devices: readonly Device[], pci: string, notes: string[]): Vf {
  const device = devices.find(({ vf }) => vf.pci === pci);
  if (!device) throw new NotUsable(`${pci} is no network device`);
  const { vf, state, why, owner } = device;
  const whose = nickname(owner) ?? owner?.netns;
  if (state === 'attached' || state === 'busy' || state === 'held')
    throw new Failure('busy', `${vfName(vf)} belongs to ${whose}: ${why}`);
  if (state === 'stale') notes.push(`${vfName(vf)} would first be given back; it was of ${whose}: ${why}`);
  else if (state === 'foreign' && !isNic(vf))
    notes.push(`the host uses ${vfName(vf)}: ${why}; named by its address it is taken all the same`);
  else if (state === 'unreadable') notes.push(`${why}: it would be put aside`);
  return vf;
}

/**
 * The VF that a pool would give: a free one, else one whose claim is stale.
 * @throws CniError 11; NotUsable
 */
async function pooled(
  host: Host,
  pool: Pool,
  wish: Wish,
  notes: string[],
  taken: readonly string[],
): Promise<Vf> {
  const { dpdk } = wish;
  const all = candidates(host, pool);
  refusePfSettings(wish, all);
  const devices = await survey(host);
  const stateOf = (vf: Vf) => devices.find((device) => device.vf.pci === vf.pci);
  const isClaimed = (vf: Vf) => stateOf(vf)?.claim !== undefined;
  const reasons = new Map<string, string>();
  for (const vf of [...all.filter((vf) => !isClaimed(vf)), ...all.filter(isClaimed)]) {
    const device = stateOf(vf);
    const isTaken = ['attached', 'busy', 'held'].includes(device?.state ?? '');
    const why = taken.includes(vf.pci)
      ? 'the bond has it already'
      : isTaken
        ? `${nickname(device?.owner)}: ${device?.why}`
        : await unfit(host, pool, dpdk, vf);
    if (why !== undefined) {
      reasons.set(vf.pci, why);
      continue;
    }
    if (device?.state === 'stale') notes.push(`${vfName(vf)} would first be given back: ${device.why}`);
    const free = devices.filter(
      ({ vf: { pci }, state }) => state === 'free' && all.some((one) => one.pci === pci),
    );
    notes.push(
      `${free.length} of the ${all.length} ${pool.devices ? 'devices' : 'VFs'} of the pool are free`,
    );
    return vf;
  }
  throw exhausted(host, pool, all, reasons);
}
