import { nowMs } from '../kernel/clock.ts';
import { errnoName, errnoOf, Errno } from '../kernel/errno.ts';
import type { FileLock } from '../kernel/files.ts';
import { readClaim } from '../vf/claims.ts';
import { lockVf } from '../vf/vf-lock.ts';
import type { Host } from '../vf/host.ts';
import { devicePath, findPf, listVfs, NotUsable, type Pf, pfName } from '../vf/inventory.ts';
import { type Flags, type Outcome, wrongUsage } from './usage.ts';
import { formatList, toJson } from './list.ts';
import type { Device } from './device.ts';
import { survey } from './survey.ts';
import { nickname } from './device-owner.ts';
import { paint } from './table.ts';

/** `sriov vfs PF [N]`: shows the VFs of a PF, or makes so many. */
export async function vfs(host: Host, words: readonly string[], flags: Flags): Promise<Outcome> {
  const [name = '', count, ...more] = words;
  if (name === '' || more.length > 0)
    return wrongUsage('vfs', 'it takes a PF, and the number of VFs to make');
  if (count !== undefined && !/^\d+$/.test(count))
    return wrongUsage('vfs', `"${count}" is not a number of VFs`);
  const pf = findPf(host.sys, name);
  const doubt = count === undefined ? undefined : await makeVfs(host, pf, Number(count));
  const devices = (await survey(host)).filter(({ vf }) => vf.pf.pci === pf.pci);
  if (flags.json) return { exitCode: 0, stdout: `${JSON.stringify(devices.map(toJson), undefined, 1)}\n` };
  const table = formatList(devices, flags.style, Date.now());
  const notes = [doubt, count === undefined ? undefined : howToKeep(pf, Number(count))];
  const text = notes.flatMap((note) => (note === undefined ? [] : [`\n${note}\n`])).join('');
  const painted = text.split('\n').map((line) => paint(flags.style, 'dim', line));
  return { exitCode: 0, stdout: `${table}${painted.join('\n')}` };
}

/** What makes the VFs again at the next boot. */
function howToKeep({ pci, driver }: Pf, count: number): string {
  // Between a virtio netdev and the PF stands one more device, which no such rule can pass by.
  if (driver === 'virtio-pci') return 'This lasts until the next boot.';
  return `This lasts until the next boot. To have it at every boot, write this line into /etc/udev/rules.d/70-sriov-${pci}.rules
(docs/tool.md has a systemd unit that does the same):

ACTION=="add", SUBSYSTEM=="net", KERNELS=="${pci}", ATTR{device/sriov_numvfs}="${count}"`;
}

/**
 * Makes a PF have so many VFs. The kernel changes their number only from and to 0, so all VFs go,
 * which must be nobody's: their locks are ours meanwhile.
 * @returns what is not as it should be afterwards
 * @throws NotUsable
 */
async function makeVfs(host: Host, pf: Pf, count: number): Promise<string | undefined> {
  if (count > pf.totalVfs)
    throw new NotUsable(`Cannot make ${count} VFs: ${pfName(pf)} can have ${pf.totalVfs}`);
  if (count === pf.numVfs) return undefined;
  const existing = listVfs(host.sys, pf);
  const locks: FileLock[] = [];
  try {
    refuseInUse(pf, await survey(host));
    for (const { pci } of existing) {
      const lock = lockVf(host, pci, 0);
      if (lock) locks.push(lock);
      if (!lock || readClaim(host, pci))
        throw new NotUsable(`Cannot change the VFs of ${pfName(pf)}: ${pci} was just taken`);
    }
    const fields = { pf: pf.ifname, pfPci: pf.pci, from: pf.numVfs, to: count };
    return await host.log.change('VFs made', fields, () => rewrite(host, pf, count));
  } finally {
    for (const lock of locks) lock[Symbol.dispose]();
  }
}

/** @throws NotUsable naming every VF in use */
export function refuseInUse(pf: Pf, devices: readonly Device[]): void {
  const ours = devices.filter(({ vf, state }) => vf.pf.pci === pf.pci && state !== 'gone');
  const used = ours.filter(({ isPf, state }) =>
    isPf ? !['up', 'down'].includes(state) : !['free', 'unbound'].includes(state),
  );
  if (used.length === 0) return;
  const names = used.map(({ vf, isPf, state, owner, why }) => {
    const whose = nickname(owner) ?? why ?? '';
    return `${isPf ? 'the PF itself' : `VF ${vf.index} (${vf.pci})`} is ${state}: ${whose}`;
  });
  const isStale = used.some(({ state }) => state === 'stale');
  throw new NotUsable(
    `Cannot change the VFs of ${pfName(pf)}: all would go, and these are in use: ${names.join('; ')}` +
      (isStale ? ' (sriov gc gives stale ones back)' : ''),
  );
}

/** How long to wait for VFs and their netdevs: some drivers make them from a work queue. */
const timeoutMs = 10_000;
const pauseMs = 50;

async function rewrite(host: Host, pf: Pf, count: number): Promise<string | undefined> {
  const attribute = `${devicePath(pf.pci)}/sriov_numvfs`;
  try {
    if (pf.numVfs > 0) host.sys.write(attribute, '0');
    if (count > 0) host.sys.write(attribute, String(count));
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === undefined) throw cause;
    throw new NotUsable(
      `Cannot make ${count} VFs on ${pfName(pf)}: its driver ${pf.driver ?? '(none)'} answered ` +
        `${errnoName(errno)}${hintFor(errno)}; it has ${host.sys.read(attribute)} now`,
      { cause },
    );
  }
  const deadline = nowMs() + timeoutMs;
  for (;;) {
    const made = listVfs(host.sys, { ...pf, numVfs: count });
    // Without autoprobe no driver is bound: that is how VFs are kept for virtual machines.
    const isProbed = host.sys.read(`${devicePath(pf.pci)}/sriov_drivers_autoprobe`) !== '0';
    const bare = made.filter(({ ifnames }) => isProbed && ifnames.length === 0);
    if (made.length === count && bare.length === 0) return undefined;
    if (nowMs() > deadline) {
      if (made.length < count)
        throw new NotUsable(`Cannot make ${count} VFs on ${pfName(pf)}: only ${made.length} have come`);
      return (
        `${bare.length} VFs have no netdev after ${timeoutMs / 1000} s: ` +
        'is the driver of the VFs installed and loaded?'
      );
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function hintFor(errno: number): string {
  if (errno === Errno.ENOMEM || errno === Errno.ENOSPC)
    return ' (too little room for the VFs: enable SR-IOV in the firmware setup, or boot with pci=realloc)';
  if (errno === Errno.EBUSY) return ' (somebody else is changing them, or a virtual machine has one)';
  return ' (the kernel log may say why: dmesg)';
}
