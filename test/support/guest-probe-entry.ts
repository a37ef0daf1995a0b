/**
 * A program for the lab's guest: our own code on devices that have no PCI function, which no command of the plugin would take. Its arguments are
 * one of the names below and a JSON list; it prints the JSON of what came of it.
 */
import { restorePf } from '../../src/attach/restore.ts';
import { runTimers } from '../../src/engine/globals.ts';
import { isSwitchdev } from '../../src/kernel/devlink.ts';
import { getLinkByName } from '../../src/kernel/link.ts';
import { Log } from '../../src/kernel/log.ts';
import { Netns } from '../../src/kernel/netns.ts';
import { isExclusive, listRdma, moveRdma, RdmaNetlink, renameRdma } from '../../src/kernel/nldev.ts';
import { exit, writeStream } from '../../src/kernel/streams.ts';
import { thisHost } from '../../src/vf/host.ts';
import type { Claim } from '../../src/vf/claim.ts';
import type { Vf } from '../../src/vf/inventory.ts';
import { applySettings, awaitSettings, differences, type VfSettings } from '../../src/vf/settings.ts';

export { runTimers };
export const ready = Promise.resolve();

/** A VF of netdevsim, which has a number and nothing else. */
function vfOf(pf: string, index: number): Vf {
  const card = { pci: 'netdevsim7', ifname: pf, driver: 'netdevsim', numVfs: 3, totalVfs: 3 };
  return { pci: `netdevsim7-${index}`, index, driver: undefined, ifnames: [], pf: card };
}

const host = () => thisHost(new Log('panic'));

async function withRdma<T>(path: string, step: (rdma: RdmaNetlink, netns: Netns) => Promise<T>): Promise<T> {
  using netns = Netns.open(path);
  using rdma = new RdmaNetlink(netns);
  return await step(rdma, netns);
}

async function findRdma(rdma: RdmaNetlink, name: string) {
  const found = (await listRdma(rdma)).find((device) => device.name === name);
  if (!found) throw new Error(`no RDMA device ${name}`);
  return found;
}

const programs = {
  settings: async (pf: string, index: number) => (await awaitSettings(host(), vfOf(pf, index))).settings,

  apply: async (pf: string, index: number, settings: VfSettings) => {
    const { rtnl } = host().netns;
    const link = await getLinkByName(rtnl, pf);
    await applySettings(rtnl, link?.ifindex ?? 0, vfOf(pf, index), settings);
  },

  restore: (pf: string, index: number, original: VfSettings, asked: VfSettings) => {
    // What restorePf() reads of a claim.
    const claim = { original: { settings: original }, asked } as unknown as Claim;
    return restorePf(host(), claim, vfOf(pf, index), undefined);
  },

  check: async (pf: string, index: number, asked: VfSettings) =>
    differences((await awaitSettings(host(), vfOf(pf, index))).settings, asked),

  isSwitchdev: (bus: string, device: string) => isSwitchdev(host().netns, { bus, device }),

  isExclusive: (netns: string) => withRdma(netns, isExclusive),

  listRdma: (netns: string) => withRdma(netns, listRdma),

  moveRdma: (from: string, name: string, to: string) =>
    withRdma(from, async (rdma) => {
      using target = Netns.open(to);
      await moveRdma(rdma, await findRdma(rdma, name), target);
    }),

  renameRdma: (netns: string, name: string, newName: string) =>
    withRdma(netns, async (rdma) => renameRdma(rdma, await findRdma(rdma, name), newName)),
} satisfies Record<string, (...args: never[]) => Promise<unknown>>;

/** By name: their arguments, as a test gives them. */
export type GuestPrograms = typeof programs;

async function outcomeOf(name: string, args: readonly unknown[]): Promise<object> {
  try {
    const program = programs[name as keyof GuestPrograms] as (
      ...args: readonly unknown[]
    ) => Promise<unknown>;
    return { value: await program(...args) };
  } catch (error) {
    const { name: kind, message } = error as Error;
    return { error: { name: kind, message } };
  }
}

/** The build's rehearsal: how fast this program starts is nobody's concern. */
export const rehearse = () => Promise.resolve(0);
export const pretend = (): unknown => undefined;

export async function main([name = '', args = '[]']: readonly string[]): Promise<never> {
  const outcome = await outcomeOf(name, JSON.parse(args) as unknown[]);
  writeStream('stdout', `${JSON.stringify(outcome)}\n`);
  return exit(0);
}
