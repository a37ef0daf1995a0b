/** The program on the second engine: what dist/sriov-static has loaded when it starts. */
import { runTimers } from './engine/globals.ts';
import { end, run } from './main.ts';
import { pretend } from './rehearsal/pretended-node.ts';
import { rehearse as rehearseWith } from './rehearsal/rehearsal.ts';
import { warmUp } from './warm-up.ts';
import './attach/bond.ts';
import './attach/rdma-plan.ts';
import './attach/rdma-transfer.ts';
import './cni/add.ts';
import './cni/check.ts';
import './cni/command.ts';
import './cni/del.ts';
import './cni/errors.ts';
import './cni/gc.ts';
import './cni/status.ts';
import './cni/versions.ts';
import './docker/daemon.ts';
import './inspect/cli.ts';
import './inspect/dry-run.ts';
import './inspect/inspect.ts';
import './inspect/list.ts';
import './inspect/metrics.ts';
import './inspect/sweep.ts';
import './inspect/take-back.ts';
import './inspect/tool.ts';
import './inspect/vfs.ts';
import './kernel/addon.ts';
import './kernel/clock.ts';
import './kernel/devlink.ts';
import './kernel/streams.ts';
import './podman/create.ts';
import './podman/plugin.ts';
import './podman/setup.ts';
import './podman/teardown.ts';
import './rdma/rdma-device.ts';
import './rdma/rdma-move.ts';

export { pretend, runTimers };

warmUp();
/** Nothing is left to be loaded. */
export const ready = Promise.resolve();

export async function main(args: readonly string[], env: Readonly<Record<string, string>>): Promise<never> {
  return end(await run(args, env, () => 0));
}

export function rehearse(): Promise<number> {
  return rehearseWith(main);
}
