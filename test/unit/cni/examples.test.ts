import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/cni/config.ts';
import { parseRequest } from '../../../src/cni/request.ts';
import { examples } from '../../support/examples.ts';

const env = { CNI_CONTAINERID: 'c', CNI_NETNS: '/run/netns/c', CNI_IFNAME: 'net1', CNI_PATH: '/opt/cni/bin' };

test.each(examples)('conf-examples/$file is understood, every key of it', ({ file, plugins }) => {
  const ours = plugins.filter(({ type }) => type === 'sriov');
  expect(ours).toHaveLength(1);
  const conf = parseConfig(parseRequest('ADD', env, JSON.stringify(ours[0])));
  expect(conf.notes).toEqual([]); // a note tells of a key that is ignored
  expect(file.endsWith('.conflist')).toBe(
    plugins[0]?.['plugins'] === undefined && file.includes('.conflist'),
  );
});
