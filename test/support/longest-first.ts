import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take a minute and a half and more, the longest first. */
const longest = [
  'docker-sid',
  'error-matrix',
  'podman',
  'containerd',
  'bond',
  'protocol',
  'storm',
  'state',
  'rdma',
  'dpdk',
  'nic',
  'docker',
  'error-matrix-dpdk',
  'crash-docker',
];

/** Starts what takes longest first, so that at the end of a run no processor waits for it. */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const found = longest.findIndex((name) => moduleId.endsWith(`/lab/${name}.test.ts`));
      return found < 0 ? longest.length : found;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
