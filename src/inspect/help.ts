/** The manual of a command. */
export interface Manual {
  readonly words: string;
  readonly summary: string;
  readonly options: readonly string[];
  readonly text: string;
}

export const optionHelp: Readonly<Record<string, string>> = {
  json: '--json            print JSON instead of text',
  'dry-run': '--dry-run         only say what would be done',
  force: '--force           even if a pod has it',
  socket: '--socket PATH     serve there (/run/docker/plugins/sriov.sock)',
  device: '--device VF       check as if a device plugin had chosen this VF (its PCI address)',
  output: '--output FILE     write there, in one step, instead of to stdout',
  verbose: '-v, --verbose     log what is done to stderr, as the plugin does at "logLevel": "debug"',
  help: '-h, --help        print this',
  version: '--version         print the version',
};

export const manuals: Readonly<Record<string, Manual>> = {
  list: {
    words: '',
    summary: 'show every PF, VF and NIC, and who has it',
    options: ['json'],
    text: `Shows every PF of this host with its VFs, and then every NIC, a network device of which no PF is in sight: PCI address, index, driver,
netdev (the name that it has where it is now), MAC, port VLAN, state, since when it has been somebody's, and whose it is. On a terminal
lines are cut to its width; NO_COLOR takes the colours away.

States of a VF:
  free        nobody has it: an ADD can take it
  attached    a pod has it, by this plugin or by the Go plugin; OWNER says which pod (or container), and in brackets which network
  busy        an ADD or DEL is at work on it
  stale       its pod is gone, its ADD died, or the machine was restarted. The next ADD that wants it gives it back, as does sriov gc
  held        its pod is gone, but something still keeps the pod's network namespace; sriov inspect tells which processes
  dpdk        bound to a userspace driver such as vfio-pci, and no pod of ours has it; a process that uses it is named
  foreign     somebody else's: used by the host (a bond, a bridge, an address), or in a namespace that we did not put it into
  unbound     no driver is bound to it
  unreadable  its claim in /var/lib/cni/sriov/claims cannot be read
  gone        it does not exist any more, but a claim on it does
A PF is up or down, or in a pod itself.

Example:
  sriov list --json | jq -r '.[] | select(.state == "attached") | "\\(.pci) \\(.owner.pod)"'`,
  },
  inspect: {
    words: 'VF|CONTAINER',
    summary: 'show everything about a VF, or about those of a pod',
    options: ['json'],
    text: `Shows everything that is known: state and reason, driver, IOMMU group, netdev and its addresses, pod, container, network and whether the
network namespace lives, what the PF has programmed now beside what was asked for and what was before, how long each phase of the ADD
took, and which processes hold it.

It is named by
  0000:03:02.1      the PCI address
  ens1f0#3          its PF (name or PCI address) and its index
  ens1f0v3          its netdev on the host
  default/web-0     the pod that has it, where the runtime told the plugin (Kubernetes does)
  3f2a9c            the container that has it; the id may be cut short as long as it is unique
A pod or container can have several VFs: all of them are shown, and --json prints a list.

Phases of an ADD, in ms:
  start      the program starts              request    configuration and namespace are checked
  choice     a VF is chosen and locked       plan       its state is read
  claim      the claim is on the disk        settings   the PF has programmed the VF
  device     the netdev has its MAC, is in the pod and up; or the VF has its userspace driver
  ipam       waited for the IPAM plugin      addresses  addresses, routes, announcements
  result     the answer`,
  },
  check: {
    words: 'CONFIG',
    summary: 'say what an ADD with this configuration would do here',
    options: ['device', 'json'],
    text: `Reads a network configuration (a .conf or .conflist file, a NetworkAttachmentDefinition as JSON, or - for stdin) and says for every plugin
in it what an ADD on this node would do: which VF it would take, what it would program, and what would be refused and why, with the
code that the runtime would get. It asks the same functions that do it, and changes nothing. What only the kernel, the card or the IPAM plugin knows
stays open: a setting that the driver refuses, an address range that is used up.

CNI_PATH tells where the plugins are (/opt/cni/bin:/usr/lib/cni).

Exit code: 0 nothing speaks against an ADD, 3 it would fail, 1 the file cannot be read, 2 wrong command line.

Examples:
  sriov check /etc/cni/net.d/10-storage.conflist
  kubectl get net-attach-def storage -o json | sriov check - --device 0000:03:02.1`,
  },
  metrics: {
    words: '',
    summary: 'print every PF and VF as metrics, for Prometheus',
    options: ['output', 'verbose'],
    text: `Prints OpenMetrics text: VFs by state of each PF, who has each VF (pod, namespace, container, network), what passed through it, claims that
are stale or held, addresses that are still to be freed, and the time of each phase of the latest ADD.

With --output FILE it goes into a file that is never seen half-written, as node_exporter's textfile collector wants it: FILE must end in .prom.
sriov-metrics.timer runs it every 15 s; docs/metrics.md explains each metric and has a dashboard.

Example:
  sriov metrics --output /var/lib/prometheus/node-exporter/sriov.prom`,
  },
  vfs: {
    words: 'PF [N]',
    summary: 'show the VFs of a PF, or make N of them',
    options: ['json', 'verbose'],
    text: `Without N: the PF and its VFs, as sriov list shows them. With N: makes the PF have N VFs (0 takes all away), waits up to 10 s until they and
their netdevs are there, and prints what makes them again at every boot. If it has N already, nothing is done.

The kernel changes the number of VFs only by taking all of them away. So this is refused while any VF of the PF is in use: attached, bound
for DPDK, used by the host or by anybody else; also while a claim is on it (sriov gc gives stale ones back).

Example:
  sriov vfs ens1f0 8`,
  },
  gc: {
    words: '',
    summary: 'give back the VFs of pods that are gone',
    options: ['dry-run', 'json', 'verbose'],
    text: `Looks at every claim, and at what the Go plugin left, and gives back the VFs whose pods are gone, whose ADD died, or that
are from before the last boot: driver, settings, name and MAC as they were, and the address to the IPAM plugin. Addresses
that could not be freed before are tried again. VFs of living pods, and those that something still holds, stay as they are.

Exit code: 0 done, 1 something could not be given back (it says what), 2 wrong command line.`,
  },
  docker: {
    words: '',
    summary: "be Docker's network driver, until SIGTERM",
    options: ['socket', 'verbose'],
    text: `Serves dockerd on systemd's socket (LISTEN_FDS), or else on one of its own, so that "docker network create -d sriov -o pf=ens1f0 NAME"
works. Only the executable that contains a Node can do it (dist/sriov, "make build"). It keeps nothing but files: networks in
/var/lib/cni/sriov/networks, VFs as claims like any other, so it can be restarted at any time. docs/docker.md tells the rest.

Exit code: 0 ended by SIGTERM or SIGINT, 1 cannot serve (another one does), 2 wrong command line.`,
  },
  release: {
    words: 'VF|LEASE',
    summary: 'give back one VF; with --force even if its pod lives',
    options: ['force', 'json', 'verbose'],
    text: `Gives back one VF, named by PCI address, PF#INDEX or netdev, if its claim is stale; with --force also from a pod that
lives, which loses its interface at once. Without --force, a VF in use is a failure (exit code 1).

An address that could not be freed, named as sriov list names it, is freed; with --force it is forgotten if that fails.`,
  },
};

const exitCodes = `Exit code: 0 done, 1 failed, 2 wrong command line, 3 "check" found that an ADD would fail.`;

/** `sriov --help` */
export function help(version: string): string {
  const rows = Object.entries(manuals).map(
    ([name, manual]) => [synopsis(name, manual), manual.summary] as const,
  );
  const width = Math.max(...rows.map(([usage]) => usage.length)) + 3;
  return `sriov ${version}: gives pods virtual functions of SR-IOV cards

As a CNI plugin it is called by a container runtime, with CNI_COMMAND in its environment. Called by hand it looks after the VFs of
this host:

${rows.map(([usage, summary]) => `  ${usage.padEnd(width)}${summary}`).join('\n')}
  sriov help COMMAND

  ${['json', 'verbose', 'version', 'help'].map((name) => optionHelp[name]).join('\n  ')}

${exitCodes} Results are on stdout, errors on stderr.
Files: /var/lib/cni/sriov/claims/PCI.json is the record of an attached VF; /var/lib/cni/sriov/pci/vf_lock/ has the locks.
`;
}

function synopsis(name: string, { words, options }: Manual): string {
  const own = options
    .filter((option) => option !== 'json' && option !== 'verbose')
    .map((option) => `[${(optionHelp[option] ?? '').split(/ {2,}/)[0]}]`);
  return ['sriov', name, words, ...own].filter(Boolean).join(' ');
}

/** `sriov help COMMAND` */
export function helpOn(name: string, manual: Manual): string {
  const options = [...manual.options, 'help'].map((option) => `  ${optionHelp[option]}\n`).join('');
  const ending = manual.text.includes('Exit code:') ? '' : `\n${exitCodes}\n`;
  return `${synopsis(name, manual)}: ${manual.summary}\n\n${manual.text}\n\n${options}${ending}`;
}
