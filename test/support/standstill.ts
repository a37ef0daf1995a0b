import type { TestNode } from './node.ts';

/**
 * Makes a call of the plugin that stands still after its n-th system call of a kind while a script runs, and then goes on.
 * @param make makes the call with this before its command line
 */
export async function atStandstill<T>(
  node: TestNode,
  { call, n }: { readonly call: string; readonly n: number },
  script: string,
  make: (wrapper: string) => Promise<T>,
): Promise<T> {
  const ended = make(`strace -o /dev/null -e trace=${call} -e inject=${call}:signal=STOP:when=${n}`);
  // Traced programs are stopped for moments all the time: this one stays so.
  const disturbance = node.sh(`
    tries=0
    isStopped() { plugin=$(pgrep -o -x sriov) && grep -q '^State:.*[tT] ' /proc/$plugin/status; }
    until isStopped && sleep 0.2 && isStopped && sleep 0.2 && isStopped; do
      sleep 0.1; (( ++tries < 300 )) || exit 0
    done
    ${script}
    kill -CONT $plugin`);
  const [outcome] = await Promise.all([ended, disturbance]);
  return outcome;
}
