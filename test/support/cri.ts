import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { Duplex, PassThrough } from 'node:stream';
import type { Machine } from '../../lab/machine.ts';
import { Fields, message } from './protobuf.ts';

/** Copies between its own standard streams and a socket in the guest. */
const relay = `exec perl -MIO::Socket::UNIX -e '
  my $socket = IO::Socket::UNIX->new(Peer => $ENV{SOCKET}) or die "$ENV{SOCKET}: $!\\n";
  my $pid = fork;
  my ($from, $to) = $pid ? ($socket, \\*STDOUT) : (\\*STDIN, $socket);
  while (sysread $from, my $bytes, 65536) { syswrite $to, $bytes }
  if ($pid) { kill KILL => $pid } else { shutdown $socket, 1 }'`;

/** A connection to a socket in the guest, through the lab's own port. */
function connectGuestSocket(machine: Machine, path: string): Duplex {
  const input = new PassThrough();
  const duplex = new Duplex({
    read: () => undefined,
    write: (chunk, _encoding, done) => void input.write(chunk, done),
    final: (done) => void input.end(done),
    destroy: (error, done) => void input.end(() => done(error)),
  });
  const onOutput = (stream: string, bytes: Buffer) => {
    if (stream === 'stdout') duplex.push(bytes);
    else duplex.destroy(new Error(`relay in the guest: ${bytes.toString()}`));
  };
  machine.run(relay, { stdin: input, env: { SOCKET: path }, timeoutMs: 0, onOutput }).then(
    () => duplex.push(null),
    (error: Error) => duplex.destroy(error),
  );
  return duplex;
}

/** A pod as the kubelet names it. */
export interface PodConfig {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  /** Counts the sandboxes of a pod: a new one after a reboot. */
  readonly attempt?: number;
}

/** What the runtime says of a pod's sandbox. */
export interface PodStatus {
  readonly isReady: boolean;
  readonly ip: string;
  /** Path of its network namespace. */
  readonly netns: string;
}

/**
 * A client of the Container Runtime Interface (gRPC, runtime.v1), as the kubelet is one. Field numbers are those of the public
 * api.proto of k8s.io/cri-api.
 */
export class Cri implements Disposable {
  readonly #session: ClientHttp2Session;

  constructor(machine: Machine, socket: string) {
    const connection = connectGuestSocket(machine, socket);
    this.#session = connect('http://localhost', { createConnection: () => connection });
    this.#session.on('error', () => undefined); // each call reports it
  }

  /** One call. @throws Error with the runtime's message */
  #call(method: string, request: Buffer): Promise<Fields> {
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({
        ':method': 'POST',
        ':path': `/runtime.v1.RuntimeService/${method}`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const headers: IncomingHttpHeaders = {};
      const chunks: Buffer[] = [];
      stream.on('response', (received) => void Object.assign(headers, received));
      stream.on('trailers', (received) => void Object.assign(headers, received));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('end', () => {
        const { 'grpc-status': status, 'grpc-message': text } = headers;
        if (status === '0') resolve(new Fields(Buffer.concat(chunks).subarray(5)));
        else reject(new Error(`${method}: gRPC ${String(status)}: ${decodeURIComponent(String(text))}`));
      });
      // One message: not compressed, its length, itself.
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(request.length, 1);
      stream.end(Buffer.concat([prefix, request]));
    });
  }

  /** Name and version of the runtime. */
  async version(): Promise<string> {
    const answer = await this.#call('Version', message([1, '0.1.0']));
    return `${answer.text(2)} ${answer.text(3)}`;
  }

  /** What keeps the runtime or its network from being ready; "" if nothing does. */
  async notReady(): Promise<string> {
    const answer = await this.#call('Status', message());
    return answer
      .message(1)
      .messages(1)
      .filter((condition) => ['RuntimeReady', 'NetworkReady'].includes(condition.text(1)))
      .filter((condition) => condition.number(2) === 0)
      .map((condition) => `${condition.text(1)}: ${condition.text(4)}`)
      .join('; ');
  }

  /** The network configuration that the runtime has loaded, as it shows it. */
  async networkConfig(): Promise<string> {
    const answer = await this.#call('Status', message([1, true]));
    return answer.map(2).get('cniconfig') ?? '';
  }

  /** Starts a pod's sandbox, and with it its network. Returns its id. */
  async runPodSandbox({ name, namespace, uid, attempt }: PodConfig): Promise<string> {
    const metadata = message([1, name], [2, uid], [3, namespace], [4, attempt]);
    const config = message([1, metadata], [2, name], [3, '/tmp'], [8, message()]);
    return (await this.#call('RunPodSandbox', message([1, config]))).text(1);
  }

  async stopPodSandbox(id: string): Promise<void> {
    await this.#call('StopPodSandbox', message([1, id]));
  }

  async removePodSandbox(id: string): Promise<void> {
    await this.#call('RemovePodSandbox', message([1, id]));
  }

  /** Ids of all sandboxes. */
  async listPodSandboxes(): Promise<string[]> {
    const answer = await this.#call('ListPodSandbox', message());
    return answer.messages(1).map((sandbox) => sandbox.text(1));
  }

  async podSandboxStatus(id: string): Promise<PodStatus> {
    const answer = await this.#call('PodSandboxStatus', message([1, id], [2, true]));
    const status = answer.message(1);
    const info = JSON.parse(answer.map(2).get('info') ?? '{}') as {
      runtimeSpec?: { linux: { namespaces: { type: string; path?: string }[] } };
    };
    const namespaces = info.runtimeSpec?.linux.namespaces ?? [];
    return {
      isReady: status.number(3) === 0,
      ip: status.message(5).text(1),
      netns: namespaces.find(({ type }) => type === 'network')?.path ?? '',
    };
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
  }
}
