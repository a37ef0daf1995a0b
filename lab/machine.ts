import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, statSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { onFrame, runRequest, sendFrame, type Frame } from './channel.ts';
import { descriptors } from './qemu.ts';

const defaultTimeoutMs = 240_000;
/** A panic with its backtrace has 40 to 60. */
const consoleTailLines = 100;

export interface RunOptions {
  /** After this the script's processes are killed and the call rejects (default four minutes: the machine may be emulated and busy; 0: no limit). */
  readonly timeoutMs?: number;
  /** As a whole, or as a stream that goes on while the script runs. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with output as it comes; the result has it all the same. */
  readonly onOutput?: (stream: 'stdout' | 'stderr', bytes: Buffer) => void;
}

export interface RunResult {
  /** Exit code; 128 plus the signal's number if the script was ended by one. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The standard output as it came, where it is not text. */
  readonly bytes: Buffer;
}

interface Pending {
  readonly stdout: Buffer[];
  readonly stderr: Buffer[];
  readonly onOutput: RunOptions['onOutput'];
  readonly end: (outcome: number | Error) => void;
}

/**
 * A running machine. It ends with `stop`, with the scope of an `await using`, or with the process that started it,
 * however that ends.
 */
export class Machine implements AsyncDisposable {
  /** The guest's terminal, /dev/hvc0 there. */
  readonly terminal: Duplex;
  readonly #qemu: ChildProcess;
  readonly #folder: string;
  readonly #port: Duplex;
  readonly #pending = new Map<number, Pending>();
  readonly #exit: Promise<void>;
  #failure: Error | undefined;
  #lastId = 0;

  /** Starts QEMU. `folder` is the machine's own; `console.log` in it holds the serial console and QEMU's messages (`log`). */
  constructor(command: readonly [string, string[]], folder: string, log: number) {
    this.#folder = folder;
    this.#qemu = spawn(...command, { stdio: ['ignore', log, log, 'pipe', 'pipe'] });
    this.#port = this.#qemu.stdio[descriptors.agent] as Duplex;
    this.terminal = this.#qemu.stdio[descriptors.terminal] as Duplex;
    // A write to a machine that has just died: its exit tells more.
    for (const socket of [this.#port, this.terminal]) socket.on('error', () => undefined);
    onFrame(this.#port, (frame) => this.#receive(frame));
    this.#exit = once(this.#qemu, 'exit').then(
      ([code, signal]) => this.#fail(`The lab's machine ended (${signal ?? `QEMU's exit code ${code}`})`),
      (error: Error) => this.#fail(`Cannot start the lab's machine: ${error.message}`),
    );
  }

  /** Waits until the guest takes commands. */
  async booted(timeoutMs: number): Promise<void> {
    // The agent's first words have the id 0; they say what went wrong, if anything did.
    const { stderr } = await this.#outcome(0, { timeoutMs }, 'The lab did not start');
    if (stderr !== '') throw this.#withConsole(`The lab did not start well: ${stderr}`);
  }

  /**
   * Runs a bash script as root in the guest; any number may run at once. Resolves when the script's shell ends: what a
   * daemon that it leaves behind prints after that is lost, so give that a file. Rejects when the time is over or the
   * machine dies.
   */
  run(script: string, options: RunOptions = {}): Promise<RunResult> {
    const id = ++this.#lastId;
    const outcome = this.#outcome(id, options, `The lab did not finish the script ${JSON.stringify(script)}`);
    if (this.#failure) return outcome;
    sendFrame(this.#port, id, 'R', runRequest(script, options.env ?? {}));
    void this.#feed(id, options.stdin ?? '');
    return outcome;
  }

  async #feed(id: number, stdin: NonNullable<RunOptions['stdin']>): Promise<void> {
    const isWhole = typeof stdin === 'string' || stdin instanceof Uint8Array;
    for await (const chunk of isWhole ? [Buffer.from(stdin)] : stdin) {
      // An empty frame means the end.
      if (chunk.length > 0 && !this.#failure) sendFrame(this.#port, id, 'I', chunk);
    }
    if (!this.#failure) sendFrame(this.#port, id, 'I');
  }

  /** Runs a script that must succeed and returns what it printed, without the end of the last line. */
  async output(script: string, options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(script, options);
    if (code !== 0)
      throw new Error(`Script failed in the lab with code ${code}: ${script}\n${stdout}${stderr}`);
    return stdout.replace(/\n$/, '');
  }

  /** Writes a file in the guest and makes the folders above it. */
  async write(guestPath: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$(dirname "$target")" && cat >"$target" && chmod "$mode" "$target"';
    const env = { target: guestPath, mode: mode.toString(8) };
    await this.output(script, { stdin: content, env, timeoutMs: 0 });
  }

  /** Copies a file into the guest, with its permissions. */
  async put(hostPath: string, guestPath: string): Promise<void> {
    await this.write(guestPath, readFileSync(hostPath), statSync(hostPath).mode & 0o777);
  }

  /** What the guest's kernel printed since the start (warnings and worse), and QEMU's own messages. */
  console(): string {
    return readFileSync(`${this.#folder}/console.log`, 'utf8');
  }

  /** Turns the machine off; nothing in it outlives this. After an unexpected end the console's log is kept. */
  async stop(): Promise<void> {
    const died = this.#failure !== undefined;
    this.#fail("The lab's machine was stopped");
    this.#qemu.kill('SIGKILL');
    await this.#exit;
    if (!died) rmSync(this.#folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #receive({ id, kind, bytes }: Frame): void {
    const pending = this.#pending.get(id);
    if (kind === 'X') pending?.end(Number(bytes));
    else if (kind === 'H') {
      pending?.stderr.push(bytes);
      pending?.end(0);
    } else {
      const stream = kind === 'O' ? 'stdout' : 'stderr';
      pending?.[stream].push(bytes);
      pending?.onOutput?.(stream, bytes);
    }
  }

  /** Waits for the end of the command with this id, or of the machine. */
  #outcome(id: number, options: RunOptions, failure: string): Promise<RunResult> {
    const { timeoutMs = defaultTimeoutMs, onOutput } = options;
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      const end = (outcome: number | Error) => {
        clearTimeout(timer);
        this.#pending.delete(id);
        const bytes = Buffer.concat(stdout);
        if (outcome instanceof Error) reject(outcome);
        else
          resolve({
            code: outcome,
            stdout: bytes.toString(),
            stderr: Buffer.concat(stderr).toString(),
            bytes,
          });
      };
      const timeout = () => {
        sendFrame(this.#port, id, 'K');
        const output = Buffer.concat([...stdout, ...stderr]).toString();
        end(this.#withConsole(`${failure} within ${timeoutMs} ms${output && `; its output:\n${output}`}`));
      };
      const timer = timeoutMs > 0 ? setTimeout(timeout, timeoutMs) : undefined;
      this.#pending.set(id, { stdout, stderr, onOutput, end });
    });
  }

  #fail(message: string): void {
    this.#failure ??= this.#withConsole(message);
    for (const pending of [...this.#pending.values()]) pending.end(this.#failure);
  }

  #withConsole(message: string): Error {
    const lines = this.console().trimEnd().split(/\r?\n/);
    const tail = lines.slice(-consoleTailLines).map((line) => `  | ${line}`);
    return new Error(`${message}\nThe end of its console, ${this.#folder}/console.log:\n${tail.join('\n')}`);
  }
}
