import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { copyFile, lstat, open, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';
import { readIfPresent, writeDurably } from './data-directory.js';
import {
  type Account,
  CLUSTER,
  canEnter,
  findPostgresHome,
  makePrivateDirectory,
  type PostgresHome,
  SYSTEM_DIRECTORY,
} from './postgres-account.js';
import { POSTGRES_ENVIRONMENT, type PostgresBinaries, prepareBinaries } from './postgres-binaries.js';
import { configureCluster, DATABASE, ensureCluster } from './postgres-cluster.js';
import { isPostmaster, readPidFile, stopPostmaster } from './postmaster.js';

/**
 * A real PostgreSQL for a machine that has none.
 *
 *     (nothing) ── initdb ──> stopped ── spawn ──> running ── stop() ──> stopped
 *                                │                   │
 *                                │                   └── we are killed ──> left behind
 *                                └──<── does not answer: SIGQUIT ──────────────┤
 *                    running ──<── answers with our password and settings ─────┘   (adopted)
 *
 * It listens on a socket in a private folder and nowhere else. It runs in its own session: a Ctrl-C in the terminal
 * reaches Waybill, which drains first and stops the database last. One Waybill per data directory is assumed here and
 * ensured by openDataDirectory.
 */
export interface EmbeddedPostgres {
  /** For drivers that take a URL; holds the password. */
  readonly url: string;
  /** For drivers that take fields, such as pg and TypeORM. `host` is the socket's folder. */
  readonly connection: Connection;
  /** True when a server left behind by a killed Waybill was taken over. */
  readonly adopted: boolean;
  readonly pid: number;
  /** Ends sessions, writes a checkpoint and returns when the server is gone: at once, or forced after 5 s. */
  stop(): Promise<void>;
}

export interface Connection {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

export interface StartOptions {
  /** Absolute; exists and is held by this process. */
  readonly dataDir: string;
  readonly instanceId: string;
  readonly log: Log;
  /** Default none. PostgreSQL settings that win over ours; `fsync: 'off'` also skips the sync of initdb. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface Log {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Part of the socket's file name only; no TCP port is used. */
const PORT = 5432;

/** `sun_path` has 108 bytes on Linux and 104 on macOS, the last one for the zero. */
const MAX_SOCKET_PATH_BYTES = 103;

/** Recovery after a crash replays up to max_wal_size (1 GB); a slow disk takes a minute for that. */
const START_TIMEOUT_MS = 120_000;

/** The server's log is copied to `postgres.log.1` and emptied above this size, checked hourly. */
const MAX_LOG_BYTES = 8 * 1024 * 1024;

/**
 * Starts the server, or takes over the one a killed Waybill left behind. First start about 1 s, later ones 0.1 s.
 *
 * @throws Error, one line, with the last lines of the server's log when it does not start
 */
export async function startPostgres(options: StartOptions): Promise<EmbeddedPostgres> {
  const { dataDir, instanceId, log, settings = {} } = options;
  const home = await findPostgresHome(dataDir, instanceId);
  const cluster = join(home.directory, CLUSTER);
  const copies = home.account ? join(SYSTEM_DIRECTORY, 'native') : join(dataDir, 'native');
  const binaries = await prepareBinaries(home.account, copies);
  const password = await keptPassword(join(dataDir, 'postgres.password'));
  await ensureCluster(home, binaries, password, { durable: settings.fsync !== 'off' });
  const clusterName = await configureCluster(home, binaries, settings);

  const logFile = join(dataDir, 'postgres.log');
  await boundLog(logFile);
  const left = await takeOver(home, cluster, password, clusterName);
  const server = left ?? (await launch(home, cluster, binaries, password, logFile));
  const adopted = left !== undefined;
  log.info({ pid: server.pid, adopted, directory: cluster, version: binaries.version }, 'PostgreSQL is ready');

  let stopping = false;
  server.child?.once('exit', (code, signal) => {
    if (!stopping) log.error({ pid: server.pid, code, signal }, `PostgreSQL ended by itself, see ${logFile}`);
  });
  const logWatch = setInterval(() => {
    boundLog(logFile).catch((error: unknown) => log.error({ err: error }, `${logFile} cannot be shortened`));
  }, 3_600_000).unref();

  return {
    url: urlOf(server.connection),
    connection: server.connection,
    adopted,
    pid: server.pid,
    async stop() {
      stopping = true;
      clearInterval(logWatch);
      await stopPostmaster(server.pid, cluster);
    },
  };
}

interface Server {
  readonly pid: number;
  readonly connection: Connection;
  readonly child?: ChildProcess;
}

/** Adopts a server left behind if it answers and is what a new start would give; otherwise ends it. */
async function takeOver(
  home: PostgresHome,
  cluster: string,
  password: string,
  clusterName: string,
): Promise<Server | undefined> {
  const left = await readPidFile(cluster);
  if (!left || !isPostmaster(left.pid, cluster)) return undefined;
  const directory = left.socketDirectory;
  let answer: string | undefined;
  if (directory && (await isPrivate(directory, home.account))) {
    const connection = connectionTo(directory, password);
    answer = await untilReady(connection, () => isPostmaster(left.pid, cluster)).catch(() => undefined);
    if (answer === clusterName) return { pid: left.pid, connection };
  }
  await stopPostmaster(left.pid, cluster, answer === undefined ? 'SIGQUIT' : 'SIGINT');
  return undefined;
}

async function launch(
  home: PostgresHome,
  cluster: string,
  binaries: PostgresBinaries,
  password: string,
  logFile: string,
): Promise<Server> {
  const directory = await makeSocketDirectory(home);
  const connection = connectionTo(directory, password);
  const stale = await readPidFile(cluster);
  const logStart = (await stat(logFile).catch(() => undefined))?.size ?? 0;
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const child = spawnPostmaster();
    let ending: string | undefined;
    child.once('error', (error) => {
      ending = error.message;
    });
    child.once('exit', (code, signal) => {
      ending ??= `ended with ${signal ?? code}`;
    });
    try {
      await untilReady(connection, () => ending === undefined);
      child.unref();
      return { pid: child.pid as number, connection, child };
    } catch (error) {
      const said = await tail(logFile, logStart);
      if (child.pid !== undefined) await stopPostmaster(child.pid, cluster, 'SIGQUIT');
      // Sessions of a killed server notice its end within moments; until then they hold its shared memory.
      const wasShared = ending !== undefined && said.includes('pre-existing shared memory block');
      if (!wasShared || Date.now() > deadline) {
        throw new Error(`PostgreSQL does not start: ${ending ?? (error as Error).message}${said && `: ${said}`}`);
      }
      await wait(100);
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
  await client.connect();
  try {
    await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}

/** In the home if the path is short enough for a socket, else in the folder for temporary files. */
async function makeSocketDirectory({ directory, account }: PostgresHome): Promise<string> {
  const hash = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  const temporary = account && !(await canEnter(tmpdir(), account)) ? '/tmp' : tmpdir();
  const candidates = [
    join(directory, 'postgres.socket'),
    ...[temporary, '/tmp'].map((at) => join(at, `waybill-${hash}`)),
  ];
  const fits = (path: string) => Buffer.byteLength(`${path}/.s.PGSQL.${PORT}`) <= MAX_SOCKET_PATH_BYTES;
  const chosen = candidates.find(fits) as string;
  await makePrivateDirectory(chosen, account);
  return chosen;
}

async function isPrivate(directory: string, account: Account | undefined): Promise<boolean> {
  const found = await lstat(directory).catch(() => undefined);
  if (!found?.isDirectory()) return false;
  return found.uid === (account?.uid ?? process.getuid?.()) && (found.mode & 0o077) === 0;
}

async function keptPassword(file: string): Promise<string> {
  const kept = (await readIfPresent(file))?.trim();
  if (kept) return kept;
  const password = randomBytes(24).toString('base64url');
  await writeDurably(file, `${password}\n`, 0o600);
  return password;
}

function connectionTo(host: string, password: string): Connection {
  return { host, port: PORT, user: DATABASE, password, database: DATABASE };
}

function urlOf({ host, port, user, password, database }: Connection): string {
  return `postgresql://${user}:${password}@/${database}?host=${encodeURIComponent(host)}&port=${port}`;
}

/** The server holds the file open for appending, so it is emptied and not renamed. */
async function boundLog(file: string): Promise<void> {
  const size = (await stat(file).catch(() => undefined))?.size ?? 0;
  if (size <= MAX_LOG_BYTES) return;
  await copyFile(file, `${file}.1`);
  await truncate(file);
}

/** The last lines written after `start` (bytes), in one line. */
async function tail(file: string, start: number): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const from = Math.max(start, size - 4_096);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4_096), 0, 4_096, from);
    return buffer.toString('utf8', 0, bytesRead).trim().split('\n').slice(-4).join(' | ');
  } finally {
    await handle.close();
  }
}
