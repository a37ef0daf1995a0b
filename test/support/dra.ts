/**
 * Calls the plugin as dra-driver-sriov does in its mode STANDALONE (its sources of 2026-08, read and not run): from the NRI hooks
 * RunPodSandbox and StopPodSandbox, through libcni, with the configuration of a NetworkAttachmentDefinition into which it has put the device.
 */
import { isIP } from 'node:net';
import type { CniAnswer, CniOutcome, TestNode } from './node.ts';

/** A sandbox as NRI shows it. */
export interface Sandbox {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Of the namespace of type "network" in pod.Linux.Namespaces. */
  readonly netns: string;
}

/** A device that was prepared for a ResourceClaim. */
export interface PreparedDevice {
  readonly pci: string;
  /** "vfnet0", "vfnet1", ... over all claims of a pod, unless the claim's configuration names one. */
  readonly ifname: string;
  /** `spec.config` of the NetworkAttachmentDefinition. */
  readonly config: object;
  /** Newer drivers put it into runtimeConfig, older ones beside "type". */
  readonly injects: 'deviceID' | 'runtimeConfig';
}

/** `status.devices[].networkData` of a ResourceClaim. */
export interface NetworkData {
  readonly interfaceName: string;
  readonly hardwareAddress: string;
  readonly ips: readonly string[];
}

function call(
  node: TestNode,
  command: 'ADD' | 'DEL',
  sandbox: Sandbox,
  device: PreparedDevice,
  netns: string,
): Promise<CniOutcome> {
  const injected =
    device.injects === 'deviceID' ? { deviceID: device.pci } : { runtimeConfig: { deviceID: device.pci } };
  const args = {
    IgnoreUnknown: 'true',
    K8S_POD_NAMESPACE: sandbox.namespace,
    K8S_POD_NAME: sandbox.name,
    K8S_POD_INFRA_CONTAINER_ID: sandbox.id,
    K8S_POD_UID: sandbox.uid,
  };
  const attachment = {
    containerId: sandbox.id,
    netns,
    ifname: device.ifname,
    args: Object.entries(args)
      .map(([key, value]) => `${key}=${value}`)
      .join(';'),
  };
  // It hands on PATH and nothing else of its environment. No prevResult: a driver that was restarted has none in its container.
  return node.cni(
    command,
    sandbox.name,
    { ...device.config, ...injected },
    attachment,
    'env -u HOME -u SHELL -u PWD',
  );
}

/** RunPodSandbox. */
export function attach(node: TestNode, sandbox: Sandbox, device: PreparedDevice): Promise<CniOutcome> {
  return call(node, 'ADD', sandbox, device, sandbox.netns);
}

/** StopPodSandbox: where the plugin says that the namespace is not there any more, it asks again without one. */
export async function detach(node: TestNode, sandbox: Sandbox, device: PreparedDevice): Promise<CniOutcome> {
  const outcome = await call(node, 'DEL', sandbox, device, sandbox.netns);
  const text = outcome.answer?.msg ?? '';
  const isGone = text.includes('failed to open netns') && text.includes('no such file or directory');
  return isGone ? call(node, 'DEL', sandbox, device, '') : outcome;
}

/** What it makes of a result: every address, and the interface that has a sandbox. */
export function networkData({ interfaces = [], ips = [] }: CniAnswer): NetworkData {
  const [inPod] = interfaces.filter(({ sandbox }) => sandbox !== undefined && sandbox !== '').slice(-1);
  return {
    interfaceName: inPod?.name ?? '',
    hardwareAddress: inPod?.mac ?? '',
    ips: ips.map(({ address }) => address),
  };
}

/** What the API server refuses in a ResourceClaim's status (resource.k8s.io/v1: NetworkDeviceData, AllocatedDeviceStatus.data). */
export function apiProblems(
  { interfaceName, hardwareAddress, ips }: NetworkData,
  result: CniAnswer,
): string[] {
  const canonical = (cidr: string) => {
    const [, address = '', length = ''] = /^([^/]+)\/(0|[1-9]\d*)$/.exec(cidr) ?? [];
    const family = isIP(address);
    if (family === 0 || Number(length) > (family === 4 ? 32 : 128)) return false;
    return family === 4 || new URL(`http://[${address}]`).hostname === `[${address}]`;
  };
  return [
    ...(interfaceName === '' || interfaceName.length > 256 ? ['interfaceName'] : []),
    ...(hardwareAddress === '' || hardwareAddress.length > 128 ? ['hardwareAddress'] : []),
    ...(ips.length > 16 || new Set(ips).size < ips.length ? ['ips'] : []),
    ...ips.filter((cidr) => !canonical(cidr)),
    ...(JSON.stringify(result).length > 10 * 1024 ? ['data'] : []),
  ];
}
