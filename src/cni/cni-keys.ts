import * as z from 'zod/mini';
import { type Key, keys as wishKeys, pciAddress } from '../attach/keys.ts';
import { meantWord, nearest } from '../attach/spelling.ts';
import { bond } from './bond-key.ts';

/** Every key of a network configuration that is ours. docs/configuration.md is checked against it. */
export const keys = {
  ...wishKeys,
  pciBusID: pciAddress,
  bond,
  ipam: {
    schema: z.looseObject({ type: z.optional(z.nullable(z.string().check(z.regex(/^[^/]*$/)))) }),
    allowed: 'an object whose "type" names an IPAM plugin',
  },
} as const satisfies Record<string, Key>;

/** Keys that are the specification's, a runtime's or another plugin's business. */
export const foreignKeys = [
  'cniVersion',
  'cniVersions',
  'name',
  'type',
  'capabilities',
  'runtimeConfig',
  'args',
  'prevResult',
  'dns',
  'disableCheck',
  'disableGC',
  'loadOnlyInlinedPlugins',
  'resourceName',
];

/** Those of a network's author that are read by somebody else; the shorter ones are too near to too much. */
const authorKeys = foreignKeys.filter((key) => key.length > 5);

/**
 * The key that an unknown one probably means ("max-tx-rate", "vlanId", "capabilites"); undefined if it
 * means none.
 */
export function meantKey(unknown: string): string | undefined {
  return meantWord(unknown, Object.keys(keys)) ?? nearest(unknown, authorKeys);
}
