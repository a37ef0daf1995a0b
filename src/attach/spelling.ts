/** Insertions, deletions, replacements and swaps of neighbours that make one word of the other. */
function distance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwap ? (beforePrevious[j - 2] ?? 0) + 1 : Infinity;
      row.push(Math.min(substitution, swap, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    beforePrevious = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}

/** How far off a slip may be. Of two letters too little is left: only a swap, or one letter at either end. */
function isNear(unknown: string, known: string, far: number): boolean {
  if (known.length > 5) return far <= 2;
  if (known.length > 2) return far <= 1;
  const swapped = known.charAt(1) + known.charAt(0);
  return far <= 1 && (unknown.length > 2 ? unknown.includes(known) : unknown === swapped);
}

const plain = (key: string) => key.toLowerCase().replace(/[-_.]/g, '');

/** The word that a misspelt one probably means; undefined if it is near to none. */
export function nearest(unknown: string, known: readonly string[]): string | undefined {
  return known
    .map((key) => ({ key, far: distance(plain(unknown), plain(key)) }))
    .filter(({ key, far }) => isNear(plain(unknown), plain(key), far))
    .sort((a, b) => a.far - b.far)[0]?.key;
}

/** What people call the thing that a key of ours sets, in lower case, words apart by a blank. The first that fits counts. */
const otherNames: readonly (readonly [RegExp, string])[] = [
  [/^vlan ?(prio|pcp|cos|qos)|\bqos\b|^pcp$/, 'vlanQoS'],
  [/^vlan ?proto/, 'vlanProto'],
  [/spoof/, 'spoofchk'],
  [/^mac(?!hine|ro)|\bmac$/, 'mac'],
  [/^mtu|\bmtu$/, 'mtu'],
  [/^link|\blink$/, 'link_state'],
  [/^min ?(tx|rate)/, 'min_tx_rate'],
  [/^max ?(tx|rate)|^(tx ?)?rate|\b(tx)?rate$/, 'max_tx_rate'],
  [/^pci|\bpci$/, 'deviceID'],
  [/^pfs?\b|\bpfs?$/, 'pf'],
  [/^vfs?\b|\bvfs?$/, 'vf'],
];

/** What begins with a word of ours, and is another plugin's: ib-sriov-cni's. */
const others: readonly string[] = ['rdmaisolation'];

/** "vlan id" of "vlanId", "VLAN_ID" and "vlan-id" */
function inWords(key: string): string {
  return key
    .replace(/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[-_.]/g, ' ')
    .trim()
    .toLowerCase();
}

/**
 * The word that an unknown one probably means: by a slip of the fingers ("max-tx-rate", "vlans"), or because it begins or ends
 * with what one of them is about ("vlanId", "trusted"). Undefined if it means none.
 */
export function meantWord(unknown: string, known: readonly string[]): string | undefined {
  const text = inWords(unknown);
  const letters = plain(unknown);
  if (others.includes(letters)) return undefined;
  // Those long enough to be recognized inside another word, the longest first.
  const long = known.filter((key) => plain(key).length > 3).sort((a, b) => b.length - a.length);
  return (
    nearest(unknown, known) ??
    otherNames.find(([pattern, key]) => pattern.test(text) && known.includes(key))?.[1] ??
    long.find((key) => letters.startsWith(plain(key)) || letters.endsWith(plain(key)))
  );
}
