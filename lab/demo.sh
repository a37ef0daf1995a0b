#!/bin/bash
# A tour of the plugin with real VFs: `make demo` runs it in the lab.
set -euo pipefail

step() { printf '\n\033[1;36m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*" >&2; "$@"; }

pf_pci=0000:01:00.0
pf=$(ls /sys/bus/pci/devices/$pf_pci/net)
vf_pci=(0000:01:10.0 0000:01:10.2)
wanted='{"vlan": 100, "vlanQoS": 3, "mac": "02:00:00:00:0a:01", "trust": "on", "max_tx_rate": 500, "mtu": 1400}'

config() { # VF, settings
  jq -n --arg vf "$1" --argjson settings "$2" '{
    cniVersion: "1.0.0", name: "demo", type: "sriov", deviceID: $vf,
    ipam: {type: "host-local", ranges: [[{subnet: "10.56.0.0/24"}], [{subnet: "fd00:56::/64"}]]}
  } + $settings'
}
cni() { # COMMAND, pod
  CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin /opt/cni/bin/sriov 2>>sriov.log
}

step "The card: an emulated Intel 82576 ($pf), driven by Debian's own igb and igbvf"
ip link set "$pf" up
echo 2 > /sys/bus/pci/devices/$pf_pci/sriov_numvfs
before=$(ip -d link show "$pf" | grep 'vf 0')
vf0=$(ls /sys/bus/pci/devices/${vf_pci[0]}/net)
vf0_before=$(ip -o link show "$vf0" | sed 's/^[0-9]*: //; s/qdisc.*//')
show ip -br link

step 'ADD: the first pod gets VF 0 with a VLAN, a MAC, a rate and an MTU of its own'
ip netns add pod1
config "${vf_pci[0]}" "$wanted" > pod1.json
show cat pod1.json
show cni ADD pod1 < pod1.json | jq .

step 'ADD: the second pod gets VF 1 on the same VLAN'
ip netns add pod2
config "${vf_pci[1]}" '{"vlan": 100}' > pod2.json
cni ADD pod2 < pod2.json | jq -c '{interfaces, ips}'

step 'Inside the first pod'
show ip -n pod1 addr show net1

step 'What the card has programmed for both'
show ip link show "$pf"

step 'The pods reach each other over their VFs'
address=$(ip -n pod2 -j addr show net1 | jq -r '.[0].addr_info[] | select(.family == "inet").local')
show ip netns exec pod1 ping -c 3 -i 0.2 "$address"

step 'DEL: everything goes back'
cni DEL pod1 < pod1.json
cni DEL pod2 < pod2.json
show ip -br link
show ip link show "$pf"
[ "$(ip -d link show "$pf" | grep 'vf 0')" = "$before" ]
[ "$(ip -o link show "$vf0" | sed 's/^[0-9]*: //; s/qdisc.*//')" = "$vf0_before" ]
step 'What the plugin logged'
cut -d' ' -f2- sriov.log
printf '\n\033[1;32mVF 0 is as it was before.\033[0m\n'
