import type { TestNode } from './node.ts';

/** The address of the DHCP server. */
export const dhcpServer = '10.6.0.1';

/** Makes a PF or VF a host of its own with a DHCP server (dnsmasq, of the disk "runtimes"), and starts the DHCP plugin's daemon on the node. */
export async function startDhcpServer(node: TestNode, pci: string): Promise<void> {
  await node.sh(`
    ip netns add server; ip link set $(ls /sys/bus/pci/devices/${pci}/net) netns server name lan0
    ip -n server addr add ${dhcpServer}/24 dev lan0; ip -n server link set lan0 up
    ip netns exec server dnsmasq --conf-file=/dev/null --port=0 --interface=lan0 --user=root --pid-file=/run/dnsmasq.pid \\
      --dhcp-authoritative --dhcp-range=10.6.0.50,10.6.0.60,1h --dhcp-option=option:router,${dhcpServer} --no-ping \\
      --dhcp-leasefile=/run/leases --log-dhcp --log-facility=/run/dnsmasq.log
    until [ -e /run/dnsmasq.pid ]; do sleep 0.05; done`);
  await startDhcpDaemon(node);
}

export async function startDhcpDaemon(node: TestNode): Promise<void> {
  await node.sh(`setsid /opt/cni/bin/dhcp daemon > /run/dhcp.log 2>&1 &
    until [ -S /run/cni/dhcp.sock ]; do sleep 0.05; done`);
}
