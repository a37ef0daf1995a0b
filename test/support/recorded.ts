/**
 * What runtimes really sent, recorded on 2026-11-23: containerd 1.6, 1.7 and 2.1 (CRI and ctr), podman 4.3, CRI-O, libcni's cnitool,
 * and Multus 4.3 behind the kubelet 1.36 with a device plugin. Ids and addresses are examples.
 */

export const containerId = '3ab494f7e56f81d58f5908e14ca92f0c5a41e9e871b5d5d576fa15c51ab84a64';
export const mac = '02:00:00:00:30:01';

/** The pairs of CNI_ARGS as containerd makes them from a map: in another order at each call. */
export const containerdArgs = [
  'K8S_POD_NAME=web-0',
  `K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
  'K8S_POD_UID=9a4c4f2e-5d0c-4d0e-8a8e-0f7c9d1b2a3c',
  'IgnoreUnknown=1',
  'K8S_POD_NAMESPACE=shop',
];

/** Multus appends its own pairs and the attachment's requests to what the kubelet's runtime sent. */
export const multusArgs = [
  'IgnoreUnknown=true',
  'K8S_POD_NAMESPACE=shop',
  'K8S_POD_NAME=web-0',
  `K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
  'K8S_POD_UID=9a4c4f2e-5d0c-4d0e-8a8e-0f7c9d1b2a3c',
  ...containerdArgs,
  `MAC=${mac}`,
  'IP=10.250.10.55/24',
].join(';');

export const podmanArgs = `IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=${containerId};IP=10.250.10.55;MAC=${mac}`;

/** Multus puts folders together without a look at what is there already. */
export const multusPath = '/opt/cni/bin:/opt/cni/bin:/usr/lib/cni:/opt/cni/bin';

export const deviceInfoFile = `/var/run/k8s.cni.cncf.io/devinfo/cni/shop-storage-${containerId}_net1`;

/** A NetworkAttachmentDefinition's config with what Multus fills in from the device plugin's choice and the pod's annotation. */
export function multusConfig(pci: string) {
  return {
    cniVersion: '1.0.0',
    name: 'storage',
    type: 'sriov',
    vlan: 100,
    capabilities: { mac: true, ips: true, deviceID: true, CNIDeviceInfoFile: true },
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.250.10.0/24' }]] },
    deviceID: pci,
    pciBusID: pci,
    resourceName: 'intel.com/sriov_netdevice',
    runtimeConfig: {
      CNIDeviceInfoFile: deviceInfoFile,
      deviceID: pci,
      ips: ['10.250.10.55/24'],
      mac,
    },
  };
}

/** All that Multus 4.3.0 leaves of a conflist's configuration at DEL (its issue 1449). */
export function strippedDel(prevResult: unknown) {
  return {
    cniVersion: '1.0.0',
    name: 'storage',
    type: 'sriov',
    capabilities: { mac: true, ips: true, deviceID: true, CNIDeviceInfoFile: true },
    ipam: { type: 'host-local' },
    prevResult,
  };
}

/** libcni's VERSION probe: everything that must be set is set to "dummy". */
export const versionProbe = {
  CNI_COMMAND: 'VERSION',
  CNI_NETNS: 'dummy',
  CNI_IFNAME: 'dummy',
  CNI_PATH: 'dummy',
};

const gc = { cniVersion: '1.1.0', name: 'storage', type: 'sriov' };
/** GC: of libcni with a list, of CRI-O when nothing runs, of cnitool. */
export const gcConfigs = {
  libcni: {
    ...gc,
    'cni.dev/attachments': [{ containerID: containerId, ifname: 'net1' }],
    'cni.dev/valid-attachments': [{ containerID: containerId, ifname: 'net1' }],
  },
  'CRI-O with no pods': { ...gc, 'cni.dev/attachments': null, 'cni.dev/valid-attachments': null },
  cnitool: gc,
};
