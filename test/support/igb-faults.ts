import type { TestNode } from './node.ts';

/** The calls of the driver that the lab's module can refuse (lab/guest/igb_faults.c). */
export type DriverCall =
  'get_vf_config' | 'set_vf_mac' | 'set_vf_vlan' | 'set_vf_bw' | 'set_vf_spoofchk' | 'set_vf_trust';

interface Refusal {
  readonly call: DriverCall;
  /** VF of every card. */
  readonly vf: number;
  /** EBUSY (16) if not given. */
  readonly errno?: number;
  /** So often; without it until {@link allowAll}. */
  readonly times?: number;
}

const parameters = '/sys/module/igb_faults/parameters';

/** Makes the PF's driver refuse one call for one VF, in a node with the disk "faults". */
export async function refuse(node: TestNode, { call, vf, errno = 16, times = -1 }: Refusal): Promise<void> {
  await node.sh(`[ -d ${parameters} ] || insmod /lab/igb_faults.ko
    cd ${parameters}; echo -1 > vf; echo 0 > refused
    echo ${call} > function; echo ${errno} > error; echo ${times} > count; echo ${vf} > vf`);
}

/** Makes the PF's driver keep to itself what the spoof check and trust of a VF are; -1: of none. */
export async function hideSettings(node: TestNode, vf: number): Promise<void> {
  await node.sh(`[ -d ${parameters} ] || insmod /lab/igb_faults.ko; echo ${vf} > ${parameters}/unreported`);
}

/** Lets the driver do everything again; returns how many calls were refused. */
export async function allowAll(node: TestNode): Promise<number> {
  return Number(await node.sh(`cd ${parameters}; echo -1 > vf; cat refused`));
}
