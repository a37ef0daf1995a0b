#!/bin/sh
# Two containers with a VF each, on VLAN 100. As root, after `make install-docker`, with an image that has busybox:
#   PF=ens1f0 IMAGE=busybox sh docker.sh
set -eu
PF=${PF:-ens1f0}
IMAGE=${IMAGE:-busybox}

docker network create -d sriov --subnet 10.11.0.0/24 -o pf="$PF" -o vlan=100 -o max_tx_rate=1000 example

docker run -d --name web --network example --ip 10.11.0.80 --mac-address 02:00:00:00:09:80 "$IMAGE" /bin/busybox sleep 1000000
docker run -d --name db --network name=example,driver-opt=max_tx_rate=500 "$IMAGE" /bin/busybox sleep 1000000

# Who has which VF:
/usr/libexec/sriov/sriov list

docker exec db /bin/busybox ip address show eth0
