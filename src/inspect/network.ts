import * as z from 'zod/mini';
import { Code, CniError } from '../cni/errors.ts';
import { parseJson } from '../kernel/json.ts';

/** One plugin's configuration. */
export type Config = Readonly<Record<string, unknown>>;

/** A network configuration file, whatever its form. */
export interface Network {
  readonly name: string;
  /** As a runtime hands them to the plugins. */
  readonly plugins: readonly Config[];
  /** Multus will put the device plugin's choice into it. */
  readonly getsDevice: boolean;
}

const listSchema = z.looseObject({
  cniVersion: z.optional(z.unknown()),
  name: z.optional(z.unknown()),
  plugins: z.array(z.looseObject({ type: z.optional(z.string()) })),
});
const singleSchema = z.looseObject({ type: z.string() });
const definitionSchema = z.looseObject({
  kind: z.literal('NetworkAttachmentDefinition'),
  metadata: z.looseObject({
    name: z.string(),
    annotations: z.optional(z.record(z.string(), z.string())),
  }),
  spec: z.looseObject({ config: z.string() }),
});

/**
 * Understands a .conf or .conflist file, or a NetworkAttachmentDefinition as JSON.
 * @throws CniError 6
 */
export function parseNetwork(text: string): Network {
  const value = parseText(text);
  const definition = definitionSchema.safeParse(value);
  if (definition.success) {
    const { metadata, spec } = definition.data;
    const config = parseText(spec.config, '"spec.config" of the NetworkAttachmentDefinition');
    // As Multus does: a name inside counts more.
    const isObject = typeof config === 'object' && config !== null;
    const named = isObject ? { name: metadata.name, ...config } : config;
    const getsDevice = metadata.annotations?.['k8s.v1.cni.cncf.io/resourceName'] !== undefined;
    return { ...fromConfig(named), getsDevice };
  }
  return { ...fromConfig(value), getsDevice: false };
}

function fromConfig(value: unknown): Omit<Network, 'getsDevice'> {
  const list = listSchema.safeParse(value);
  if (list.success) {
    const { cniVersion, name, plugins } = list.data;
    return { name: String(name), plugins: plugins.map((plugin) => ({ ...plugin, cniVersion, name })) };
  }
  const single = singleSchema.safeParse(value);
  if (single.success) return { name: String(single.data['name']), plugins: [single.data] };
  throw new CniError(
    Code.DecodingFailure,
    'Not a network configuration: it has neither "type" (a .conf) nor "plugins" (a .conflist) ' +
      'nor "kind": "NetworkAttachmentDefinition" with "spec.config"',
  );
}

function parseText(text: string, what = 'the network configuration'): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    const hint = /^\s*(apiVersion|kind|metadata):/m.test(text)
      ? ': this is YAML; kubectl get net-attach-def NAME -o json prints it as JSON'
      : `: ${(cause as Error).message}`;
    throw new CniError(Code.DecodingFailure, `Cannot parse ${what}${hint}`, undefined, { cause });
  }
}
