import * as z from 'zod/mini';
import type { BondWish, Device } from '../attach/wish.ts';
import { parsePci } from '../vf/inventory.ts';
import { parsePfSelector } from '../vf/pool.ts';

/** The key "bond": its shape. What its values may be is said value by value, see bondOf(). */
export const bond = {
  schema: z.strictObject({
    pfs: z.optional(z.array(z.string())),
    devices: z.optional(z.array(z.string())),
    mode: z.optional(z.union([z.string(), z.int()])),
    miimon: z.optional(z.union([z.string(), z.int()])),
    failOverMac: z.optional(z.union([z.string(), z.int()])),
    primary: z.optional(z.string()),
  }),
  allowed: 'an object with "pfs" or "devices" (lists), and "mode", "miimon", "failOverMac", "primary"',
} as const;

const defaultMiimonMs = 100;
const longestMiimonMs = 10_000;

/** Both are what bond-cni's users write: 1 is the kernel's number. */
const activeBackup: readonly unknown[] = [undefined, 'active-backup', 1, '1'];
const active: readonly unknown[] = [undefined, 'active', 1, '1'];

/** What the key asks for; what is wrong in it is told to `refuse`. */
export function bondOf(
  { pfs, devices, mode, miimon = defaultMiimonMs, failOverMac, primary }: z.infer<typeof bond.schema>,
  refuse: (problem: string) => void,
): BondWish | undefined {
  let isRefused = false;
  const wrong = (problem: string) => {
    isRefused = true;
    refuse(problem);
  };
  if ((pfs === undefined) === (devices === undefined))
    wrong('it takes its two VFs from "pfs" or from "devices"');
  if (!activeBackup.includes(mode))
    wrong(
      '"mode" must be "active-backup": the others need a switch that bundles both ports, or MACs that a PF lets no VF have',
    );
  const miimonMs = /^\d{1,6}$/.test(String(miimon)) ? Number(miimon) : 0;
  if (miimonMs < 1 || miimonMs > longestMiimonMs)
    wrong(`"miimon" must be 1 to ${longestMiimonMs} milliseconds: nothing else notices a lost link`);
  if (!active.includes(failOverMac))
    wrong('"failOverMac" must be 1 (active): a PF can refuse a MAC that its VF takes by itself');
  const sources = pfs ? fromPfs(pfs, wrong) : fromAddresses(devices ?? [], wrong);
  if (primary !== undefined && !isOneOfTwo(primary, pfs, devices))
    wrong('"primary" must be one of the two of "pfs" or "devices"');
  const [first, second] = sources;
  if (isRefused || !first || !second) return undefined;
  return { devices: [first, second], miimonMs, primary: primary?.split('#')[0] };
}

function fromPfs(pfs: readonly string[], wrong: (problem: string) => void): Device[] {
  const selectors = pfs.flatMap((text) => parsePfSelector(text) ?? []);
  if (selectors.length !== pfs.length || pfs.length < 1 || pfs.length > 2)
    wrong(
      '"pfs" must be a list of one or two PFs, each a name or PCI address, or "ens1f0#0-3,7" for some of its VFs',
    );
  const pools = selectors.map((selector): Device => ({ kind: 'pool', pool: { pfs: [selector] } }));
  return pools.length === 1 ? [...pools, ...pools] : pools;
}

function fromAddresses(addresses: readonly string[], wrong: (problem: string) => void): Device[] {
  const pcis = new Set(addresses.flatMap((text) => parsePci(text) ?? []));
  if (pcis.size !== 2 || addresses.length !== 2)
    wrong('"devices" must be a list of two different PCI addresses');
  return [...pcis].map((pci) => ({ kind: 'vf', pci }));
}

/** Of one PF both VFs are: none of them is meant by its name. */
function isOneOfTwo(primary: string, pfs: readonly string[] = [], devices: readonly string[] = []): boolean {
  const names = [...pfs.map((text) => text.split('#')[0] ?? ''), ...devices];
  return names.length === 2 && names[0] !== names[1] && names.includes(primary.split('#')[0] ?? '');
}
