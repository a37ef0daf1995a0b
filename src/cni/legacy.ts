/**
 * Configurations of this plugin's ancestors, in terms of today's: Intel's SR-IOV CNI v0 and v1 (2017 to 2019) and hustcat's (2016 to
 * 2020). Their keys count only where they do not change the meaning of a modern configuration. docs/compatibility.md has the table.
 */

type Config = Readonly<Record<string, unknown>>;

/** Keys that only the ancestors had, in lower case. */
const legacyKeys = [
  'master',
  'if0',
  'if0name',
  'l2enable',
  'vfid',
  'deviceinfo',
  'cnidir',
  'pfonly',
  'origvfstate',
];

export interface Modernized {
  readonly config: Config;
  /** Name of the interface in the pod, instead of CNI_IFNAME (Intel's if0name). */
  readonly podIfname?: unknown;
  /** The PF itself goes into the pod (hustcat's pfOnly). */
  readonly wholePf?: boolean;
  /** What was ignored, for the log. */
  readonly notes: readonly string[];
}

/** The value of a key in any case, as Go's decoder finds it; null is absent. */
function lookUp(config: Config, key: string): unknown {
  return Object.entries(config).find(([name]) => name.toLowerCase() === key)?.[1] ?? undefined;
}

function without(config: Config, ...dropped: string[]): Config {
  return Object.fromEntries(Object.entries(config).filter(([name]) => !dropped.includes(name.toLowerCase())));
}

/** A number of CNI_ARGS, where 0 was "not given"; what is no number goes on to be refused. */
function numberArgument(text: string | undefined): unknown {
  if (!text || Number(text) === 0) return undefined;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

/** Intel's form of "dpdk": the driver to bind, one to go back to, and a script that did it. */
const legacyDpdkKeys = ['kernel_driver', 'dpdk_driver', 'dpdk_tool', 'pci_addr', 'ifname', 'vfid'];

/** Its dpdk_driver is our "driver"; what the VF had before comes back by itself. */
function modernizeDpdk(config: Config): Pick<Modernized, 'config' | 'notes'> {
  const dpdk = lookUp(config, 'dpdk');
  const given = typeof dpdk === 'object' ? Object.keys(dpdk as object).filter((key) => legacyDpdkKeys.includes(key)) : []; // prettier-ignore
  if (given.length === 0) return { config, notes: [] };
  const { dpdk_driver: driver } = dpdk as { dpdk_driver?: unknown };
  const own = Object.fromEntries(Object.entries(dpdk as object).filter(([key]) => !given.includes(key)));
  const unneeded = given.filter((key) => key !== 'dpdk_driver').map((key) => `"dpdk.${key}"`);
  return {
    config: { ...without(config, 'dpdk'), dpdk: { ...own, ...(driver ? { driver } : {}) } },
    notes: unneeded.length > 0 ? [`${unneeded.join(', ')}: not needed any more`] : [],
  };
}

/** Translates a configuration; a modern one comes back as it was, without the keys that only ancestors had. */
export function modernize(given: Config, cniArgs: ReadonlyMap<string, string>): Modernized {
  const { config, notes } = modernizeDpdk(given);
  const modernized = modernizeSelector(config, cniArgs);
  return { ...modernized, notes: [...notes, ...modernized.notes] };
}

function modernizeSelector(config: Config, cniArgs: ReadonlyMap<string, string>): Modernized {
  const given = legacyKeys.filter((key) => lookUp(config, key) !== undefined);
  if (given.length === 0) return { config, notes: [] };

  const rest = without(config, ...legacyKeys);
  const hasSelector = ['deviceid', 'pcibusid', 'pf'].some((key) => lookUp(config, key));
  const pf = hasSelector ? undefined : (lookUp(config, 'if0') ?? lookUp(config, 'master'));
  const isLegacy = pf !== undefined || ['if0name', 'l2enable', 'vfid'].some((key) => given.includes(key));
  if (!isLegacy)
    return { config: rest, notes: given.map((key) => `"${key}" has no meaning beside "deviceID" or "pf"`) };

  // 0 was how Go's decoder showed that there is no "vlan".
  const vlan =
    (pf === undefined ? undefined : numberArgument(cniArgs.get('VLAN'))) ??
    (lookUp(config, 'vlan') || undefined);
  const vf = pf === undefined ? undefined : numberArgument(cniArgs.get('VF'));
  const isLayer2 = lookUp(config, 'l2enable') === true;
  return {
    config: {
      ...without(rest, 'vlan', ...(isLayer2 ? ['ipam'] : [])),
      ...(vlan === undefined ? {} : { vlan }),
      ...(pf === undefined ? {} : { pf }),
      ...(vf === undefined ? {} : { vf }),
    },
    podIfname: lookUp(config, 'if0name'),
    wholePf: lookUp(config, 'pfonly') === true,
    notes: ['vfid', 'deviceinfo', 'cnidir']
      .filter((key) => given.includes(key))
      .map((key) => `"${key}" is not needed any more`),
  };
}
