import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseConfig, type NetConf } from '../../../src/cni/config.ts';
import { parseRequest } from '../../../src/cni/request.ts';

/** A Kubernetes object, as far as these tests look into it. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: { readonly config?: string; readonly containers?: { readonly resources?: Resources }[] };
  readonly data?: Readonly<Record<string, string>>;
  readonly resources?: string[];
  readonly patches?: { readonly patch: string }[];
}
interface Resources {
  readonly requests?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
}

interface NetworkConfig {
  readonly cniVersion?: string;
  readonly name?: string;
  readonly type?: string;
  readonly plugins?: NetworkConfig[];
}

function filesIn(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => pattern.test(name)).map((name) => join(folder, name));
}

function parseYaml<T>(text: string): T[] {
  return parseAllDocuments(text, { strict: true }).map((document) => {
    expect([...document.errors, ...document.warnings]).toEqual([]);
    return document.toJS() as T;
  });
}

const yamlFiles = filesIn('deploy', /\.ya?ml$/);
// That of Docker Compose is no manifest; it runs in the lab.
const manifestFiles = yamlFiles.filter((file) => !file.includes('compose'));
const manifests = manifestFiles.flatMap((file) =>
  parseYaml<Manifest>(readFileSync(file, 'utf8')).map((manifest) => ({ file, manifest })),
);
const ofKind = (kind: string) =>
  manifests
    .filter(({ manifest }) => manifest.kind === kind)
    .map(({ file, manifest }) => [`${file} ${manifest.metadata?.name ?? ''}`, manifest, file] as const);

/** Our plugins of a network, as a runtime calls them: name and version of a list go to each of its plugins. */
function ourConfigs(network: NetworkConfig, injected: object): NetConf[] {
  const { plugins = [network], cniVersion, name } = network;
  return plugins
    .filter(({ type }) => type === 'sriov')
    .map((plugin) => {
      const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1' };
      const config = JSON.stringify({ cniVersion, name, ...plugin, ...injected });
      return parseConfig(parseRequest('ADD', env, config));
    });
}

/** A configuration that an operator copies must name its device, and hold no key that we would only note in the log. */
function expectUsable(confs: NetConf[]): void {
  expect(confs.length).toBeGreaterThan(0);
  for (const conf of confs) {
    expect(conf.device).toBeDefined();
    expect(conf.notes).toEqual([]);
  }
}

const resourceAnnotation = 'k8s.v1.cni.cncf.io/resourceName';
const networksAnnotation = 'k8s.v1.cni.cncf.io/networks';

/** "prefix/name" of everything that the device plugin's configuration offers. */
const offered = ofKind('ConfigMap').flatMap(([, { data }]) => {
  const { resourceList } = JSON.parse(data?.['config.json'] ?? '') as {
    resourceList: { resourcePrefix: string; resourceName: string }[];
  };
  return resourceList.map(({ resourcePrefix, resourceName }) => `${resourcePrefix}/${resourceName}`);
});

describe('deploy/', () => {
  test('has the objects that an operator needs', () => {
    const kinds = new Set(manifests.map(({ manifest }) => manifest.kind));
    expect([...kinds].sort()).toEqual(
      ['ConfigMap', 'DaemonSet', 'Kustomization', 'NetworkAttachmentDefinition', 'Pod'].sort(),
    );
  });

  test.each(ofKind('NetworkAttachmentDefinition'))(
    '%s is a configuration of ours',
    (_, { metadata, spec }) => {
      const resource = metadata.annotations?.[resourceAnnotation];
      const network = JSON.parse(spec?.config ?? '') as NetworkConfig;
      const injected = { deviceID: '0000:03:02.0', pciBusID: '0000:03:02.0' }; // Multus, where a device plugin chose
      expectUsable(ourConfigs(network, resource === undefined ? {} : injected));
      expect(network.name).toBe(metadata.name);
      if (resource !== undefined) expect(offered).toContain(resource);
    },
  );

  test.each(ofKind('Pod'))('%s asks for what its networks need', (_, { metadata, spec }) => {
    const annotation = metadata.annotations?.[networksAnnotation] ?? '';
    const names = annotation.trim().startsWith('[')
      ? (JSON.parse(annotation) as { name: string }[]).map(({ name }) => name)
      : annotation.split(',');
    const needed = names.flatMap((name) => {
      const network = ofKind('NetworkAttachmentDefinition').find(([, nad]) => nad.metadata.name === name);
      expect(network, `network ${name}`).toBeDefined();
      return network?.[1].metadata.annotations?.[resourceAnnotation] ?? [];
    });
    const { requests = {}, limits = {} } = spec?.containers?.[0]?.resources ?? {};
    for (const resource of needed) {
      expect(requests[resource]).toBe(String(needed.filter((other) => other === resource).length));
      expect(limits[resource]).toBe(requests[resource]);
    }
  });

  test.each(ofKind('Kustomization'))(
    '%s names what is there',
    (_, { resources = [], patches = [] }, file) => {
      for (const resource of resources) expect(existsSync(join(dirname(file), resource))).toBe(true);
      const [, daemonSet] = ofKind('DaemonSet').find(([, one]) => one.metadata.name === 'sriov-cni') ?? [];
      for (const { patch } of patches) {
        for (const { path } of parseYaml<{ path: string }[]>(patch).flat()) {
          const place = path.split('/').slice(1).reduce<unknown>((at, step) => (at as Record<string, unknown>)[step], daemonSet); // prettier-ignore
          expect(place, path).toBeDefined();
        }
      }
    },
  );
});

test('no file names the host of a registry', () => {
  const images = yamlFiles.flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/^\s*image: *(\S+)/gm)]);
  const containerfile = readFileSync('deploy/Containerfile', 'utf8');
  const names = [...images.map(([, name]) => name), /^ARG BASE=(.*)$/m.exec(containerfile)?.[1]];
  expect(names.length).toBeGreaterThan(3);
  expect(names.filter((name) => name?.includes('/'))).toEqual([]);
});
