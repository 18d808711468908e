import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { readIfPresent, writeDurably } from './data-directory.js';
import { CLUSTER, findPostgresHome, SYSTEM_DIRECTORY } from './postgres-account.js';
import { prepareBinaries } from './postgres-binaries.js';
import { configureCluster, ensureCluster } from './postgres-cluster.js';
import { Keeper, type Log } from './postgres-keeper.js';
import { boundLog } from './postgres-log.js';
import { type Installation, launch, type Server, takeOver } from './postgres-server.js';
import { type Connection, chooseSocketDirectory, urlOf } from './postgres-socket.js';
import { stopPostmaster } from './postmaster.js';

/**
 * A real PostgreSQL for a machine that has none.
 *
 *     (nothing) ── initdb ──> stopped ── spawn ──> running ── stop() ──> stopped
 *                                │                   │ │
 *                                ├──<── it dies ─────┘ │
 *                                │                     └── we are killed ──> left behind
 *                                └──<── does not answer: SIGQUIT ────────────────┤
 *                    running ──<── answers with our password and settings ───────┘   (adopted)
 *
 * It listens on a socket in a private folder and nowhere else. It runs in its own session: a Ctrl-C in the terminal
 * reaches Waybill, which drains first and stops the database last. One Waybill per data directory is assumed here and
 * ensured by openDataDirectory.
 */
export interface EmbeddedPostgres {
  /** For drivers that take a URL; holds the password. */
  readonly url: string;
  /** For drivers that take fields, such as pg and TypeORM. Outlives the server: the next one has the same. */
  readonly connection: Connection;
  /** True when a server left behind by a killed Waybill was taken over. */
  readonly adopted: boolean;
  /** Of the newest server. */
  readonly pid: number;
  /** Ends sessions, writes a checkpoint and returns when the server is gone: at once, or forced after 5 s. */
  stop(): Promise<void>;
}

export interface StartOptions {
  /** Absolute; exists and is held by this process. */
  readonly dataDir: string;
  readonly instanceId: string;
  readonly log: Log;
  /** Default none. PostgreSQL settings that win over ours; `fsync: 'off'` also skips the sync of initdb. */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * Whether to start the server again when it dies. Default false: who only visits a server that runs must not bring
   * it back when its owner stops it.
   */
  readonly restart?: boolean;
}

/** The size of the server's log is looked at this often. */
const BOUND_LOG_EVERY_MS = 3_600_000;

/**
 * Starts the server, or takes over the one a killed Waybill left behind. First start about 1 s, later ones 0.1 s.
 *
 * @throws Error, one line, with the last lines of the server's log when it does not start
 */
export async function startPostgres(options: StartOptions): Promise<EmbeddedPostgres> {
  const { dataDir, log, restart = false } = options;
  const installation = await install(options);
  const { cluster, logFile, binaries } = installation;
  await boundLog(logFile);
  const socketDirectory = await chooseSocketDirectory(installation.home);
  const first = await start(installation, socketDirectory, new AbortController().signal);
  const { adopted, connection } = first;
  log.info({ pid: first.pid, adopted, directory: cluster, version: binaries.version }, 'PostgreSQL is ready');

  // An adopted server may have its socket elsewhere (another TMPDIR, then); the next one must have it there, too.
  const startAgain = (signal: AbortSignal) => start(installation, connection.host, signal);
  const keeper = restart ? new Keeper(first, startAgain, log) : undefined;
  const logWatch = setInterval(() => {
    boundLog(logFile).catch((error: unknown) => log.error({ err: error }, `${logFile} cannot be shortened`));
  }, BOUND_LOG_EVERY_MS).unref();

  const newest = () => keeper?.server ?? first;
  return {
    url: urlOf(connection),
    connection,
    adopted,
    get pid() {
      return newest().pid;
    },
    async stop() {
      clearInterval(logWatch);
      await keeper?.stop();
      await stopPostmaster(newest().pid, cluster);
    },
  };

  /** Everything that is made once and lasts. */
  async function install({ instanceId, settings = {} }: StartOptions): Promise<Installation> {
    const home = await findPostgresHome(dataDir, instanceId);
    const copies = home.account ? join(SYSTEM_DIRECTORY, 'native') : join(dataDir, 'native');
    const binaries = await prepareBinaries(home.account, copies);
    const password = await keptPassword(join(dataDir, 'postgres.password'));
    await ensureCluster(home, binaries, password, { durable: settings.fsync !== 'off' });
    const clusterName = await configureCluster(home, binaries, settings);
    const logFile = join(dataDir, 'postgres.log');
    return { home, cluster: join(home.directory, CLUSTER), binaries, password, clusterName, logFile };
  }
}

async function start(installation: Installation, socketDirectory: string, signal: AbortSignal): Promise<Server> {
  return (await takeOver(installation, signal)) ?? (await launch(installation, socketDirectory, signal));
}

async function keptPassword(file: string): Promise<string> {
  const kept = (await readIfPresent(file))?.trim();
  if (kept) return kept;
  const password = randomBytes(24).toString('base64url');
  await writeDurably(file, `${password}\n`, 0o600);
  return password;
}
