/**
 * Configurations of this plugin's ancestors, in terms of today's: Intel's SR-IOV CNI v0 and v1 (2017
 * to 2019) and hustcat's (2016 to 2020). Their keys count only where they do not change the meaning
 * of a modern configuration. docs/compatibility.md has the table.
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

/** Every key that is looked at here, in lower case. */
const lookedAt = new Set([...legacyKeys, 'dpdk', 'vlan', 'deviceid', 'pcibusid', 'pf']);

/** Those keys of a configuration in lower case, as Go's decoder finds them in any; null is absent. */
function lowerCased(config: Config): ReadonlyMap<string, unknown> {
  const values = new Map<string, unknown>();
  for (const name of Object.keys(config)) {
    const key = name.toLowerCase();
    if (lookedAt.has(key) && config[name] !== null) values.set(key, config[name]);
  }
  return values;
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
  const dpdk = lowerCased(config).get('dpdk');
  if (typeof dpdk !== 'object') return { config, notes: [] };
  const given = Object.entries(dpdk as object) as [string, unknown][];
  const legacy = given.filter(([key]) => legacyDpdkKeys.includes(key));
  if (legacy.length === 0) return { config, notes: [] };
  const modern = given.filter(([key]) => !legacyDpdkKeys.includes(key));
  const driver = legacy.flatMap(([key, value]) =>
    key === 'dpdk_driver' && value ? [['driver', value] as const] : [],
  );
  const unneeded = legacy.filter(([key]) => key !== 'dpdk_driver').map(([key]) => `"dpdk.${key}"`);
  return {
    config: { ...without(config, 'dpdk'), dpdk: Object.fromEntries([...modern, ...driver]) },
    notes: unneeded.length > 0 ? [`${unneeded.join(', ')}: not needed any more`] : [],
  };
}

/**
 * Translates a configuration; a modern one comes back as it was, without the keys that only ancestors
 * had.
 */
export function modernize(given: Config, cniArgs: ReadonlyMap<string, string>): Modernized {
  const { config, notes } = modernizeDpdk(given);
  const modernized = modernizeSelector(config, cniArgs);
  return { ...modernized, notes: [...notes, ...modernized.notes] };
}

/** Keys that chose a device, and those of which nobody needs to know anything any more. */
const selectors = ['master', 'if0', 'pfonly'];
const obsolete = ['vfid', 'deviceinfo', 'cnidir', 'origvfstate'];

const meaningless = 'has no meaning beside "deviceID" or "pf"';

function modernizeSelector(config: Config, cniArgs: ReadonlyMap<string, string>): Modernized {
  const values = lowerCased(config);
  const given = legacyKeys.filter((key) => values.has(key));
  if (given.length === 0) return { config, notes: [] };

  const rest = without(config, ...legacyKeys);
  const hasSelector = ['deviceid', 'pcibusid', 'pf'].some((key) => values.get(key));
  const pf = hasSelector ? undefined : (values.get('if0') ?? values.get('master'));
  const isLegacy = pf !== undefined || ['if0name', 'l2enable', 'vfid'].some((key) => given.includes(key));
  const noted = (keys: readonly string[], why: string) =>
    given.filter((key) => keys.includes(key)).map((key) => `"${key}" ${why}`);
  if (!isLegacy) return { config: rest, notes: noted(given, meaningless) };

  // 0 was how Go's decoder showed that there is no "vlan".
  const vlan =
    (pf === undefined ? undefined : numberArgument(cniArgs.get('VLAN'))) ?? (values.get('vlan') || undefined);
  const vf = pf === undefined ? undefined : numberArgument(cniArgs.get('VF'));
  const isLayer2 = values.get('l2enable') === true;
  const translated = Object.entries({ vlan, pf, vf }).filter(([, value]) => value !== undefined);
  const kept = without(rest, ...(isLayer2 ? ['ipam'] : []), 'vlan', ...translated.map(([key]) => key));
  return {
    config: { ...kept, ...Object.fromEntries(translated) },
    podIfname: values.get('if0name'),
    wholePf: pf !== undefined && values.get('pfonly') === true,
    notes: [
      ...noted(pf === undefined ? selectors : [], meaningless),
      ...noted(obsolete, 'is not needed any more'),
    ],
  };
}
