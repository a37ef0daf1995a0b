import { readdirSync, readFileSync } from 'node:fs';

const folder = new URL('../../conf-examples/', import.meta.url);

/** A file of conf-examples/, as a chain of plugins with what a runtime adds to each. */
export interface Example {
  readonly file: string;
  readonly text: string;
  readonly plugins: readonly Record<string, unknown>[];
}

interface Conflist {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins?: readonly Record<string, unknown>[];
}

/** Understands a configuration file: a single plugin, or a chain. */
export function parseExample(file: string, text: string): Example {
  const config = JSON.parse(text) as Conflist;
  const { cniVersion, name, plugins = [{ ...config }] } = config;
  return { file, text, plugins: plugins.map((plugin) => ({ ...plugin, cniVersion, name })) };
}

export const examples: readonly Example[] = readdirSync(folder)
  .filter((file) => /\.conf(list)?$/.test(file))
  .map((file) => parseExample(file, readFileSync(new URL(file, folder), 'utf8')));
