import type { TestNode } from './node.ts';

/** What testpmd counted on one port until it ended. */
export interface PortCount {
  readonly received: number;
  readonly sent: number;
}

/** Debian's dpdk-testpmd on some VFs, as the outside eye for DPDK. */
export class Testpmd {
  /** MAC addresses of the ports in the order of the VFs, in lower case. */
  readonly macs: readonly string[];
  readonly #node: TestNode;
  readonly #name: string;

  private constructor(node: TestNode, name: string, macs: readonly string[]) {
    this.#node = node;
    this.#name = name;
    this.macs = macs;
  }

  /** Huge pages for three of them. */
  static async prepare(node: TestNode): Promise<void> {
    await node.sh('echo 300 > /proc/sys/vm/nr_hugepages');
  }

  /** Starts it and waits until its ports run. `words` are testpmd's own options. */
  static async start(
    node: TestNode,
    name: string,
    vfs: readonly string[],
    ...words: string[]
  ): Promise<Testpmd> {
    const devices = vfs.map((pci) => `-a ${pci}`).join(' ');
    await node.sh(`
      rm -f /run/${name}.in; mkfifo /run/${name}.in
      setsid stdbuf -oL dpdk-testpmd --no-telemetry -l 0,1 -m 80 --file-prefix ${name} ${devices} -- \\
        --nb-cores=1 --total-num-mbufs=2048 -a ${words.join(' ')} <> /run/${name}.in > /run/${name}.log 2>&1 &
      echo $! > /run/${name}.pid
      until grep -q 'Press enter to exit' /run/${name}.log; do
        kill -0 $(cat /run/${name}.pid) || { cat /run/${name}.log >&2; exit 1; }
        sleep 0.1
      done`);
    const log = await node.sh(`cat /run/${name}.log`);
    const macs = [...log.matchAll(/^Port \d+: ([0-9A-F:]{17})$/gm)].map(([, mac = '']) => mac.toLowerCase());
    return new Testpmd(node, name, macs);
  }

  /** Process id in the guest. */
  get pid(): Promise<string> {
    return this.#node.sh(`cat /run/${this.#name}.pid`);
  }

  /** Ends it with its forwarding statistics, by port. */
  async stop(): Promise<PortCount[]> {
    const log = await this.#node.sh(`
      echo > /run/${this.#name}.in
      while kill -0 $(cat /run/${this.#name}.pid) 2> /dev/null; do sleep 0.1; done
      cat /run/${this.#name}.log`);
    const port = /Forward statistics for port \d+ +-+\s+RX-packets: (\d+).*\s+TX-packets: (\d+)/g;
    return [...log.matchAll(port)].map(([, received, sent]) => ({
      received: Number(received),
      sent: Number(sent),
    }));
  }

  /** Kills it, and waits until it is gone. */
  async kill(): Promise<void> {
    await this.#node.sh(`
      kill -9 $(cat /run/${this.#name}.pid)
      while kill -0 $(cat /run/${this.#name}.pid) 2> /dev/null; do sleep 0.05; done`);
  }
}
