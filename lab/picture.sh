#!/bin/bash
# 14 VFs in six states: what docs/list.svg shows.
set -euo pipefail
for card in 1 2; do
  pf=0000:0$card:00.0 name=ens${card}f0
  ip link set "$(ls /sys/bus/pci/devices/$pf/net)" name $name
  ip link set $name up
  /opt/cni/bin/sriov vfs $pf 7 >/dev/null
  for n in {0..6}; do
    ip link set "$(ls /sys/bus/pci/devices/$pf/virtfn$n/net)" name ${name}v$n
  done
done

# attach NAMESPACE/POD NETWORK KEYS
attach() {
  local pod=${1#*/} id
  id=$(echo -n "$1" | sha256sum | cut -c-64)
  ip netns add "$pod"
  CNI_COMMAND=ADD CNI_CONTAINERID=$id CNI_NETNS=/run/netns/$pod CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin \
    CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=${1%/*};K8S_POD_NAME=$pod" \
    /opt/cni/bin/sriov <<<"{\"cniVersion\": \"1.0.0\", \"name\": \"$2\", \"type\": \"sriov\", \"logLevel\": \"error\", $3}" >/dev/null
}
ipam='"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.56.0.0/24"}]]}'
attach shop/web-7d9f8b6c5-x2x4z storage "\"pf\": \"ens1f0\", $ipam"
attach shop/web-7d9f8b6c5-k8q7w storage "\"pf\": \"ens1f0\", $ipam"
attach telco/upf-0 n3 '"pf": "ens1f0", "vlan": 100, "trust": "on"'
attach telco/upf-1 n6 '"pf": "ens2f0", "vlan": 200, "vlanQoS": 3'
attach shop/cart-0 storage "\"pf\": \"ens2f0\", $ipam"
ip netns del cart-0 # its pod died and no DEL came

modprobe vfio-pci
for vf in 0000:01:11.4 0000:01:11.2; do
  echo vfio-pci >/sys/bus/pci/devices/$vf/driver_override
  echo $vf >/sys/bus/pci/devices/$vf/driver/unbind
  echo $vf >/sys/bus/pci/drivers_probe
done
ip address add 192.0.2.10/24 dev ens2f0v5
ip netns add vpn
ip link set ens2f0v6 netns vpn
sleep 1
