import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unusedPort } from '../peers/http-peer.js';

export interface EventStoreOptions {
  /** Folder of its log; one of its own by default, which `stop` removes. */
  readonly path?: string;
  /** Default any that is free. */
  readonly port?: number;
  /** PEM files; without them the connection is plain. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The host by which a cluster of this server alone is found, default 127.0.0.1. */
  readonly publicHost?: string;
  /** Bytes, default 64 MiB. */
  readonly maxAppendSize?: number;
}

export interface EventStoreProcess {
  /** Connection string. */
  readonly url: string;
  readonly port: number;
  readonly path: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** By SIGKILL; resolves when it is gone. Its log stays. */
  kill(): Promise<void>;
  /** Ends it in good order, if it runs, and removes its log if that is its own. The answer is its exit code. */
  stop(): Promise<number | null>;
  /** Starts it anew on the same port and log, after `kill` or instead of what runs. */
  restart(): Promise<void>;
}

const READY = /^READY (\d+)$/m;
const START_TIMEOUT_MS = 120_000;

/**
 * Starts the EventStoreDB test server as a process of its own, which ends with this one.
 *
 * @throws Error with what it printed, when it ends or is silent for 120 s instead of becoming ready
 */
export async function startEventStore(options: EventStoreOptions = {}): Promise<EventStoreProcess> {
  const path = options.path ?? (await mkdtemp(join(tmpdir(), 'waybill-eventstore-')));
  // One that is given out for port 0 could be somebody else's by the time it is started again.
  let { child, port } = await launch({ ...options, path, port: options.port ?? (await unusedPort()) });
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    const exited = child.exitCode === null && child.signalCode === null && once(child, 'exit');
    child.kill(signal);
    await exited;
    return child.exitCode;
  };
  const credentials = options.tls ? 'admin:changeit@' : '';
  const query = options.tls ? `?tls=true&tlsCAFile=${options.tls.cert}` : '?tls=false';
  return {
    ...{ url: `esdb://${credentials}127.0.0.1:${port}${query}`, port, path },
    get pid() {
      return child.pid as number;
    },
    async kill() {
      await end('SIGKILL');
    },
    async stop() {
      const code = await end('SIGTERM');
      if (options.path === undefined) await rm(path, { recursive: true, force: true });
      return code;
    },
    async restart() {
      await end('SIGTERM');
      ({ child, port } = await launch({ ...options, path, port }));
    },
  };
}

async function launch(options: EventStoreOptions & { readonly path: string }) {
  const { path, port = 0, publicHost = '127.0.0.1', tls, maxAppendSize } = options;
  const flags = [`--path=${path}`, `--port=${port}`, '--host=127.0.0.1', `--public=${publicHost}`];
  if (tls) flags.push(`--cert=${tls.cert}`, `--key=${tls.key}`);
  if (maxAppendSize !== undefined) flags.push(`--max-append-size=${maxAppendSize}`);
  const child = fork(fileURLToPath(new URL('main.ts', import.meta.url)), flags, {
    execArgv: ['--import', new URL('../../../scripts/ts-loader.mjs', import.meta.url).href],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  try {
    return { child, port: await readiness(child) };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

async function readiness(child: ChildProcess): Promise<number> {
  let output = '';
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(`the EventStoreDB test server ${reason}:\n${output.trim()}`));
      for (const stream of [child.stdout, child.stderr])
        stream?.setEncoding('utf8').on('data', (chunk: string) => {
          output += chunk;
          const port = READY.exec(output)?.[1];
          if (port !== undefined) resolve(Number(port));
        });
      child.once('exit', (code, signal) => fail(`ended with ${signal ?? code}`));
      timer = setTimeout(() => fail('did not become ready'), START_TIMEOUT_MS);
    });
  } finally {
    clearTimeout(timer);
  }
}
