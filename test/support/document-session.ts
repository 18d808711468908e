import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { unusedPort } from './peers/http-peer.js';
import { REPOSITORY, removeDataDir } from './waybill-process.js';

/** The commands of a document, each block one string. */
export const shellBlocks = (text: string): string[] =>
  [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block ?? '');

export interface Ended {
  /** What it has printed, errors after the rest. */
  readonly output: string;
  /** Of its last command. */
  readonly code: number;
}

/** Runs the commands of a document as they are written: in a folder of their own, on other ports, without npm. */
export class DocumentSession {
  readonly #running: ChildProcess[] = [];

  private constructor(
    readonly folder: string,
    readonly ports: { readonly api: number; readonly hook: number },
  ) {}

  static async open(): Promise<DocumentSession> {
    const folder = await mkdtemp(join(tmpdir(), 'waybill-document-'));
    return new DocumentSession(folder, { api: await unusedPort(), hook: await unusedPort() });
  }

  /** Runs a command that stays, until it has printed or done what shows that it is ready. @returns what it has printed by then and later */
  async keep(command: string, isReady: (output: string) => Promise<boolean> | boolean): Promise<() => string> {
    const child = spawn('bash', ['-c', `exec env ${this.#adapted(command)}`], { ...this.#options(), detached: true });
    this.#running.push(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    await expect.poll(() => isReady(output), { timeout: 120_000, interval: 50 }).toBe(true);
    return () => output;
  }

  /** Whether anything answers where the document's receiver of webhooks is to be. */
  isReceiving(): Promise<boolean> {
    return fetch(`http://127.0.0.1:${this.ports.hook}`).then(
      () => true,
      () => false,
    );
  }

  run(commands: string): Promise<Ended> {
    return new Promise((resolve) => {
      execFile('bash', ['-c', this.#adapted(commands)], this.#options(), (error, stdout, stderr) =>
        resolve({ output: stdout + stderr, code: error ? Number(error.code) : 0 }),
      );
    });
  }

  async close(): Promise<void> {
    for (const child of this.#running) {
      if (child.exitCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await removeDataDir(join(this.folder, '.waybill'));
    await rm(this.folder, { recursive: true, force: true });
  }

  #options() {
    return { cwd: this.folder, env: { ...process.env, PORT: String(this.ports.api) } };
  }

  #adapted(command: string): string {
    return command
      .replaceAll(/3000|4000/g, (port) => String(port === '3000' ? this.ports.api : this.ports.hook))
      .replace('npm start', `node '${join(REPOSITORY, 'bin/waybill.mjs')}' start`)
      .replaceAll('node bin/', `node ${REPOSITORY}/bin/`)
      .replaceAll('node docs/', `node ${REPOSITORY}/docs/`);
  }
}
