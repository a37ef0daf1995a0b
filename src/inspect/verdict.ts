import { isNic, standsAlone, type Vf, vfName } from '../vf/inventory.ts';
import { changes, type VfSettings } from '../vf/settings.ts';
import { paint, printableLines, type Style } from './table.ts';

export interface Refusal {
  readonly code: number;
  readonly message: string;
  readonly details?: string | undefined;
}

/** What would be made of a device. */
export interface DeviceVerdict {
  readonly takes: Vf;
  /** What would be programmed, and what is. */
  readonly sets: VfSettings;
  readonly is: VfSettings;
}

/** What an ADD of one plugin of a network would do here. */
export interface Verdict {
  readonly type: string;
  /** One device, or the two of a bond. */
  readonly devices: readonly DeviceVerdict[];
  readonly refused: readonly Refusal[];
  readonly notes: readonly string[];
}

export function toJson({ type, devices, refused, notes }: Verdict): object {
  const [first = { takes: undefined, sets: {}, is: {} }, second] = devices.map(deviceToJson);
  return { type, wouldWork: refused.length === 0, ...first, second, refused, notes };
}

function deviceToJson({ takes, sets, is }: DeviceVerdict): object {
  const vf = {
    pci: takes.pci,
    index: standsAlone(takes) ? undefined : takes.index,
    pf: isNic(takes) ? undefined : { pci: takes.pf.pci, ifname: takes.pf.ifname },
    driver: takes.driver,
    netdev: takes.ifnames[0],
  };
  return { takes: vf, sets, is };
}

export function formatVerdict(
  { type, devices, refused, notes }: Verdict,
  which: string,
  style: Style,
): string {
  const rows: [string, string][] = [];
  for (const { takes, sets, is } of devices) {
    rows.push([
      'takes',
      `${vfName(takes)}, driver ${takes.driver ?? 'none'}, netdev ${takes.ifnames[0] ?? 'none'}`,
    ]);
    const programmed = changes(is, sets);
    for (const key of Object.keys(programmed) as (keyof VfSettings)[])
      rows.push([
        'sets',
        `${key} ${text(programmed[key])} (now ${is[key] === undefined ? 'unknown' : text(is[key])})`,
      ]);
  }
  for (const note of notes) rows.push(['note', note]);
  for (const { code, message, details } of refused)
    rows.push(['refused', `${message} (code ${code})${details === undefined ? '' : `\n${details}`}`]);
  const lines = rows.map(([name, value]) => {
    const label = paint(style, name === 'refused' ? 'red' : 'dim', name.padEnd(9));
    return `  ${label}${printableLines(value).replaceAll('\n', `\n${' '.repeat(11)}`)}\n`;
  });
  return `${paint(style, 'bold', `Plugin ${which}: ${type}`)}\n${lines.join('')}`;
}

function text(value: unknown): string {
  return JSON.stringify(value).replaceAll('"', '');
}
