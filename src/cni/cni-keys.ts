import * as z from 'zod/mini';
import { type Key, keys as wishKeys, nearest, pciAddress } from '../attach/keys.ts';

/** Every key of a network configuration that is ours. docs/configuration.md is checked against it. */
export const keys = {
  ...wishKeys,
  pciBusID: pciAddress,
  ipam: {
    schema: z.looseObject({ type: z.optional(z.nullable(z.string().check(z.regex(/^[^/]*$/)))) }),
    allowed: 'an object whose "type" names an IPAM plugin',
  },
} as const satisfies Record<string, Key>;

/** Keys that are the specification's, a runtime's or another plugin's business. */
export const foreignKeys = [
  'cniVersion',
  'name',
  'type',
  'capabilities',
  'runtimeConfig',
  'args',
  'prevResult',
  'dns',
  'disableCheck',
  'resourceName',
];

/** The key of ours that an unknown one probably means ("max-tx-rate", "vlans"); undefined if it is near to none. */
export function nearestKey(unknown: string): string | undefined {
  return nearest(unknown, Object.keys(keys));
}
