import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Pool } from 'undici';
import { readIfPresent } from '../../src/platform/data-directory.js';
import { CLUSTER, SYSTEM_DIRECTORY } from '../../src/platform/postgres-account.js';
import { isPostmaster, readPidFile, stopPostmaster } from '../../src/platform/postmaster.js';
import { eventStoreOf, isEventStoreDbWanted, removeEventStoreOf } from './event-store-of.js';
import { nodeFlags, type StartScript } from './node-flags.js';

/** A whole Waybill, as its users start it, in a process of its own. */
export interface WaybillProcess {
  /** `http://127.0.0.1:<port>`; GraphQL is at `/graphql`. */
  readonly url: string;
  readonly adminKey: string;
  readonly dataDir: string;
  readonly pid: number;
  /** Asks with the administrator's key. Rejects only when there is no answer. */
  graphql<Data = Record<string, unknown>>(query: string, variables?: object): Promise<GraphqlAnswer<Data>>;
  /** The same where errors are not expected: gives the data alone, or rejects with the errors. */
  ask<Data = Record<string, unknown>>(query: string, variables?: object): Promise<Data>;
  /** What it has printed so far, the last 1 MiB. */
  output(): string;
  /** SIGTERM, then waits for its end. A temporary data directory is removed, also after `kill`. */
  stop(): Promise<Exit>;
  /** SIGKILL. PostgreSQL and the data stay behind, for the next start with this `dataDir` or for `stop`. */
  kill(): Promise<Exit>;
  /** Resolves when it has ended, whoever ended it. */
  readonly exited: Promise<Exit>;
}

export interface GraphqlAnswer<Data> {
  readonly data: Data | null;
  readonly errors: readonly {
    readonly message: string;
    readonly path?: readonly (string | number)[];
    readonly extensions?: { readonly code?: string; readonly fields?: { path: string; problem: string }[] };
  }[];
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface WaybillOptions {
  /** Added to the environment; wins over what is chosen here. */
  readonly env?: NodeJS.ProcessEnv;
  /** Default: a new folder for temporary files. One that is given is the caller's to remove (`removeDataDir`). */
  readonly dataDir?: string;
  /** Default false. True lets `stop` leave a new folder alone; it lasts as long as the calling process, at most. */
  readonly keepData?: boolean;
  /** Default: as WAYBILL_TEST_LOG says, else false. True keeps the log in an EventStoreDB test server. */
  readonly eventStoreDb?: boolean;
  /** What the process is started through, such as `prlimit --fsize=…`: it must become it. */
  readonly through?: readonly string[];
  /** Whose flags node is given. Default `start`. */
  readonly script?: StartScript;
  /** For node itself, beside them: `--cpu-prof` … */
  readonly nodeOptions?: readonly string[];
  /** Default: the root of the repository. */
  readonly cwd?: string;
}

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** First start on a slow machine: compiling, initdb and migrations. */
const START_TIMEOUT_MS = 120_000;
const READY = /Waybill is ready at (https?:\/\/\S+)\/graphql/;
const KEPT_OUTPUT = 1024 * 1024;
const TOLD_OUTPUT = 4_000;
/** Enough for the load of bench/; every idle one is closed after 4 s. */
const CONNECTIONS = 128;

/**
 * Starts `waybill start` on a free port.
 *
 * @throws Error with what it printed, when it ends or is silent for 120 s instead of becoming ready
 */
export async function startWaybill(options: WaybillOptions = {}): Promise<WaybillProcess> {
  const { env, dataDir, keepData = dataDir !== undefined, cwd = REPOSITORY } = options;
  const { script = 'start', nodeOptions = [], through = [] } = options;
  const directory = dataDir ?? (await mkdtemp(join(tmpdir(), 'waybill-data-')));
  const adminKey = env?.WAYBILL_ADMIN_KEY ?? randomBytes(32).toString('base64url');
  const { eventStoreDb = isEventStoreDbWanted } = options;
  const log = eventStoreDb ? { EVENTSTORE_URL: (await eventStoreOf(directory)).url } : {};
  const node = [process.execPath, ...nodeFlags(script), ...nodeOptions, join(REPOSITORY, 'bin/waybill.mjs'), 'start'];
  const [program, ...argv] = [...through, ...node];
  const child = spawn(program as string, argv, {
    cwd,
    env: { ...environment(), WAYBILL_DATA: directory, WAYBILL_ADMIN_KEY: adminKey, ...log, ...env },
    // A session of its own: Ctrl-C in the terminal is for the caller, who then stops it in good order.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = outputOf(child);
  const exited = once(child, 'exit').then(([code, signal]): Exit => ({ code, signal }));
  const watch = cleanUpWhenWeAreGone(directory, dataDir === undefined);
  if (child.pid !== undefined) watch.process(child.pid);
  void exited.then(() => (dataDir === undefined ? watch.process(undefined) : watch.end()));

  const release = async () => {
    if (keepData) return;
    await removeDataDir(directory);
    watch.end();
  };
  try {
    const url = await readiness(child, exited, output);
    const pool = new Pool(url, { connections: CONNECTIONS });
    let isAskedToEnd = false;
    void exited.then(({ code, signal }) => {
      // Whoever waits for an answer would only learn that there is none.
      if (!isAskedToEnd)
        console.error(`Waybill ended with ${signal ?? code} by itself:\n${output().slice(-TOLD_OUTPUT)}`);
    });
    const end = async (signal: NodeJS.Signals) => {
      isAskedToEnd = true;
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const exit = await exited;
      if (!pool.destroyed) await pool.destroy();
      return exit;
    };
    const graphql = <Data>(query: string, variables?: object) => post<Data>(pool, adminKey, query, variables);
    return {
      ...{ url, adminKey, dataDir: directory, pid: child.pid as number, output, exited, graphql },
      async ask<Data>(query: string, variables?: object) {
        const { data, errors } = await graphql<Data>(query, variables);
        if (errors.length === 0 && data !== null) return data;
        throw new Error(`Waybill refused: ${errors.map(({ message }) => message).join('; ')}`);
      },
      kill: () => end('SIGKILL'),
      async stop() {
        const exit = await end('SIGTERM');
        await release();
        return exit;
      },
    };
  } catch (error) {
    child.kill('SIGKILL');
    await exited.catch(() => undefined);
    await release();
    throw error;
  }
}

/** Removes a data directory that no Waybill runs on, with the PostgreSQL that a killed one left behind. */
export async function removeDataDir(dataDir: string): Promise<void> {
  await removeEventStoreOf(dataDir);
  for (const home of await postgresHomes(dataDir)) {
    const cluster = join(home, CLUSTER);
    const left = await readPidFile(cluster);
    if (left) await stopPostmaster(left.pid, cluster, 'SIGQUIT');
    await rm(home, { recursive: true, force: true });
  }
}

/** The main process of the embedded PostgreSQL of a data directory, undefined when none runs. */
export async function postgresPid(dataDir: string): Promise<number | undefined> {
  for (const home of await postgresHomes(dataDir)) {
    const found = await readPidFile(join(home, CLUSTER));
    if (found && isPostmaster(found.pid, join(home, CLUSTER))) return found.pid;
  }
  return undefined;
}

/** Where its database may be; for root it can be outside (see src/platform/postgres-account.ts). */
async function postgresHomes(dataDir: string): Promise<string[]> {
  const instanceId = (await readIfPresent(join(dataDir, 'instance.id')))?.trim();
  return [dataDir, ...(instanceId ? [join(SYSTEM_DIRECTORY, instanceId)] : [])];
}

/** Ours, without what would make this Waybill write to somebody's real database. */
function environment(): NodeJS.ProcessEnv {
  const { DATABASE_URL: _, EVENTSTORE_URL: __, WAYBILL_CONFIG: ___, ...rest } = process.env;
  const ours = { PORT: '0', HOST: '127.0.0.1', WAYBILL_ALLOWED_NETWORKS: '127.0.0.0/8', WAYBILL_LOG_LEVEL: 'warn' };
  return { ...rest, ...ours };
}

function outputOf(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).slice(-KEPT_OUTPUT);
    });
  return () => text;
}

async function readiness(child: ChildProcess, exited: Promise<Exit>, output: () => string): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const url = await Promise.race([
    new Promise<string>((resolve) => {
      child.stdout?.on('data', () => {
        const found = READY.exec(output())?.[1];
        if (found) resolve(found);
      });
    }),
    exited.then(({ code, signal }) => new Error(`Waybill ended with ${signal ?? code} instead of becoming ready`)),
    new Promise<Error>((resolve) => {
      timer = setTimeout(() => resolve(new Error('Waybill did not become ready')), START_TIMEOUT_MS);
    }),
  ]);
  clearTimeout(timer);
  if (typeof url === 'string') return url;
  throw new Error(`${url.message}:\n${output().trim()}`);
}

async function post<Data>(pool: Pool, key: string, query: string, variables?: object): Promise<GraphqlAnswer<Data>> {
  const { statusCode, body } = await pool.request({
    path: '/graphql',
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ query, variables }),
  });
  const text = await body.text();
  try {
    const { data = null, errors = [] } = JSON.parse(text);
    return { data, errors };
  } catch {
    throw new Error(`Waybill answered ${statusCode}: ${text.slice(0, 500)}`);
  }
}

/**
 * Leaves a small shell waiting on a pipe whose other end is ours: it closes when this process ends, by SIGKILL too. It
 * is told which process to end then, and by a `-` that there is none (any more). A temporary folder it removes.
 */
function cleanUpWhenWeAreGone(dataDir: string, isTemporary: boolean) {
  const script = `
    while read -r line; do pid=$line; done
    if test "$pid" != -; then
      kill -TERM "$pid"
      for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
      kill -KILL "$pid"
    fi
    test "$2" = temporary || exit
    id=$(cat "$1/instance.id")
    for home in "$1" \${id:+"${SYSTEM_DIRECTORY}/$id"}; do
      pid=$(head -n 1 "$home/${CLUSTER}/postmaster.pid") && kill -QUIT "$pid"
      for _ in $(seq 100); do test -e "$home/${CLUSTER}/postmaster.pid" || break; sleep 0.05; done
      rm -rf "$home"
    done`;
  const shell = spawn('sh', ['-c', script, 'sh', dataDir, isTemporary ? 'temporary' : 'kept'], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shell.unref();
  shell.stdin.on('error', () => undefined); // it was ended, by us or by somebody
  (shell.stdin as unknown as { unref(): void }).unref();
  shell.stdin.write('-\n');
  return {
    process: (pid: number | undefined) => void shell.stdin.write(`${pid ?? '-'}\n`),
    end: () => void shell.kill('SIGKILL'),
  };
}
