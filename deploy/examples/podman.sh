#!/bin/sh
# Two containers with a VF each, on VLAN 100. As root, after `make install-podman`, with an image that has busybox:
#   PF=ens1f0 IMAGE=busybox sh podman.sh
set -eu
PF=${PF:-ens1f0}
IMAGE=${IMAGE:-busybox}

podman network create --driver sriov --subnet 10.11.0.0/24 --opt pf="$PF" --opt vlan=100 --opt max_tx_rate=1000 example

podman run -d --name web --network example --ip 10.11.0.80 --mac-address 02:00:00:00:09:80 "$IMAGE" /bin/busybox sleep 1000000
podman run -d --name db --network example:max_tx_rate=500 "$IMAGE" /bin/busybox sleep 1000000

# Who has which VF:
/usr/libexec/netavark/sriov list

podman exec db /bin/busybox ip address show eth0
