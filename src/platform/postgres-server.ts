import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';
import { makePrivateDirectory, type PostgresHome } from './postgres-account.js';
import { POSTGRES_ENVIRONMENT, type PostgresBinaries } from './postgres-binaries.js';
import { DATABASE } from './postgres-cluster.js';
import { sizeOf, tail } from './postgres-log.js';
import { type Connection, connectionTo, isPrivate, PORT } from './postgres-socket.js';
import { isPostmaster, readPidFile, stopPostmaster } from './postmaster.js';
import { databaseGivesWay } from './precedence.js';

/** A server that takes connections. */
export interface Server {
  readonly pid: number;
  readonly connection: Connection;
  /** True when it was left behind by a killed Waybill. */
  readonly adopted: boolean;
  /** Resolves when it is gone, with the signal or exit code that ended it where that can be known. */
  ended(): Promise<string | undefined>;
}

/** What a server is started from; stays the same from one start to the next. */
export interface Installation {
  readonly home: PostgresHome;
  /** Folder of the database. */
  readonly cluster: string;
  readonly binaries: PostgresBinaries;
  readonly password: string;
  /** Of a server with the settings and version that a new start would give. */
  readonly clusterName: string;
  readonly logFile: string;
}

/** Recovery after a crash replays up to max_wal_size (1 GB); a slow disk takes a minute for that. */
const START_TIMEOUT_MS = 120_000;

/** The end of a process that is not our child has to be looked for; looking takes microseconds. */
const LOOK_EVERY_MS = 500;

/**
 * Adopts a server left behind if it answers and is what a new start would give; otherwise ends it.
 *
 * @param signal ends the waiting for its answer
 */
export async function takeOver(
  { home, cluster, password, clusterName }: Installation,
  signal: AbortSignal,
): Promise<Server | undefined> {
  const left = await readPidFile(cluster);
  if (!left || !isPostmaster(left.pid, cluster)) return undefined;
  const { pid, socketDirectory: directory } = left;
  let answer: string | undefined;
  if (directory && (await isPrivate(directory, home.account))) {
    const connection = connectionTo(directory, password);
    const isAlive = () => isPostmaster(pid, cluster) && !signal.aborted;
    answer = await untilReady(connection, isAlive).catch(() => undefined);
    if (answer === clusterName) return { pid, connection, adopted: true, ended: () => untilGone(pid, cluster) };
  }
  await stopPostmaster(pid, cluster, answer === undefined ? 'SIGQUIT' : 'SIGINT');
  return undefined;
}

/**
 * Starts a server where none runs (see takeOver).
 *
 * @param directory for the socket
 * @param signal ends the start, and what has been started
 * @throws Error, one line, with the last lines of the server's log
 */
export async function launch(
  { home, cluster, binaries, password, logFile }: Installation,
  directory: string,
  signal: AbortSignal,
): Promise<Server> {
  await makePrivateDirectory(directory, home.account);
  const connection = connectionTo(directory, password);
  const stale = await readPidFile(cluster);
  const logStart = await sizeOf(logFile);
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await wait(100)) {
    signal.throwIfAborted();
    const child = spawnPostmaster();
    if (child.pid !== undefined) databaseGivesWay(child.pid);
    let ending: string | undefined;
    const ended = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(String(signal ?? code)));
    });
    void ended.then((how) => {
      ending ??= `ended with ${how}`;
    });
    child.once('error', (error) => {
      ending = error.message;
    });
    try {
      await untilReady(connection, () => ending === undefined && !signal.aborted);
      child.unref();
      return { pid: child.pid as number, connection, adopted: false, ended: () => ended };
    } catch (error) {
      const said = await tail(logFile, logStart);
      if (child.pid !== undefined) await stopPostmaster(child.pid, cluster, 'SIGQUIT');
      // Sessions of a killed server notice its end within moments; until then they hold its shared memory.
      const wasShared = ending !== undefined && said.includes('pre-existing shared memory block');
      if (!wasShared || Date.now() > deadline) {
        throw new Error(`PostgreSQL does not start: ${ending ?? (error as Error).message}${said && `: ${said}`}`);
      }
    }
  }

  function spawnPostmaster(): ChildProcess {
    const log = openSync(logFile, 'a', 0o600);
    // After a crash the pid in the old pid file can belong to any process by now, and PostgreSQL would take that one
    // for its twin. takeOver has made sure that it is not; this variable makes PostgreSQL overlook that one pid and
    // keep its other check (shared memory still in use), which deleting the file would not.
    // Source: CreateLockFile in src/backend/utils/init/miscinit.c
    const overlook = stale ? { PG_GRANDPARENT_PID: String(stale.pid) } : {};
    try {
      return spawn(join(binaries.directory, 'bin', 'postgres'), ['-D', cluster, '-k', directory, '-p', String(PORT)], {
        cwd: '/',
        env: { ...POSTGRES_ENVIRONMENT, ...overlook },
        detached: true,
        stdio: ['ignore', log, log],
        ...home.account,
      });
    } finally {
      closeSync(log);
    }
  }
}

/** Its exit code is told to its parent, whoever that is by now, and not to us. */
async function untilGone(pid: number, cluster: string): Promise<undefined> {
  while (isPostmaster(pid, cluster)) await wait(LOOK_EVERY_MS, undefined, { ref: false });
}

/**
 * Waits until the server takes connections, making the database at first.
 *
 * @returns the server's `cluster_name`
 * @throws Error when `isAlive` becomes false, the server refuses us, or START_TIMEOUT_MS have passed
 */
async function untilReady(connection: Connection, isAlive: () => boolean): Promise<string> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; isAlive(); await wait(10)) {
    const client = new pg.Client({ ...connection, connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
    client.on('error', () => {});
    try {
      await client.connect();
      const { rows } = await client.query<{ name: string }>(`select current_setting('cluster_name') as name`);
      return rows[0]?.name ?? '';
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === '3D000') await createDatabase(connection);
      else if (!STILL_STARTING.has(code ?? '') || Date.now() > deadline) throw error;
    } finally {
      await client.end().catch(() => {});
    }
  }
  throw new Error('it ended while starting');
}

/** No socket yet, nobody behind it, and SQLSTATE cannot_connect_now. */
const STILL_STARTING: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED', 'ECONNRESET', '57P03']);

async function createDatabase(connection: Connection): Promise<void> {
  const client = new pg.Client({ ...connection, database: 'postgres' });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}
