import { printable, shorten } from '../kernel/printable.ts';

/**
 * One metric with all its series. Only types that node_exporter's textfile collector knows, too: it reads the older format of Prometheus,
 * in which "# UNIT" and "# EOF" are comments, but "# TYPE x info" and "stateset" an error that costs the whole file.
 */
export interface Family {
  /** Without the "_total" of a counter; ends with the unit, where it has one. */
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly unit?: 'bytes' | 'packets' | 'seconds' | undefined;
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  readonly labels: Readonly<Record<string, string | undefined>>;
  readonly value: number;
}

/** Longer than any name that Kubernetes allows. */
const maxLabelLength = 256;

/**
 * A label's value, which may be what a pod's author chose: control characters are shown as \u001b first, which the format would let pass
 * and a terminal or a dashboard would not.
 */
function quote(value: string): string {
  const shown = printable(shorten(value, maxLabelLength));
  return `"${shown.replace(/["\\]/g, '\\$&')}"`;
}

function formatSample(name: string, { labels, value }: Sample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}=${quote(text ?? '')}`);
  return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`;
}

function formatFamily({ name, type, unit, help, samples }: Family): string {
  const unitLine = unit === undefined ? '' : `# UNIT ${name} ${unit}\n`;
  const lines = samples.map((sample) => formatSample(type === 'counter' ? `${name}_total` : name, sample));
  return `# TYPE ${name} ${type}\n${unitLine}# HELP ${name} ${help}\n${lines.join('')}`;
}

/** OpenMetrics text. Metrics without a series are left out. */
export function formatMetrics(families: readonly Family[]): string {
  return `${families
    .filter(({ samples }) => samples.length > 0)
    .map(formatFamily)
    .join('')}# EOF\n`;
}
