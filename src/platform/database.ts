import 'reflect-metadata';
import pg, { type PoolConfig } from 'pg';
import { DataSource, type EntitySchema } from 'typeorm';
import { FirstTables1780000000000 } from './migrations/1780000000000-first-tables.js';
import { EventLog1780100000000 } from './migrations/1780100000000-event-log.js';
import { ProjectionWriter1780200000000 } from './migrations/1780200000000-projection-writer.js';
import { SeveralEngines1780300000000 } from './migrations/1780300000000-several-engines.js';
import { Suspensions1780400000000 } from './migrations/1780400000000-suspensions.js';
import { Circuits1780500000000 } from './migrations/1780500000000-circuits.js';
import { TenantPolicies1781000000000 } from './migrations/1781000000000-tenant-policies.js';
import { DataKeys1782000000000 } from './migrations/1782000000000-data-keys.js';
import { Erasure1782100000000 } from './migrations/1782100000000-erasure.js';
import { BlueGreen1783000000000 } from './migrations/1783000000000-blue-green.js';
import { Parking1783100000000 } from './migrations/1783100000000-parking.js';
import { Audit1784000000000 } from './migrations/1784000000000-audit.js';
import { AuditSearch1784100000000 } from './migrations/1784100000000-audit-search.js';
import { ProviderReasons1785000000000 } from './migrations/1785000000000-provider-reasons.js';
import { Suppressions1787000000000 } from './migrations/1787000000000-suppressions.js';
import { Legs1788000000000 } from './migrations/1788000000000-legs.js';
import { Inbox1791000000000 } from './migrations/1791000000000-inbox.js';
import { StatusWebhooks1792000000000 } from './migrations/1792000000000-status-webhooks.js';
import { Retention1793000000000 } from './migrations/1793000000000-retention.js';
import { ReadingCheckpoints1795000000000 } from './migrations/1795000000000-reading-checkpoints.js';
import { Engagement1795100000000 } from './migrations/1795100000000-engagement.js';
import { AnalystViews1795200000000 } from './migrations/1795200000000-analyst-views.js';
import { FiltersUseTheirIndexes1797000000000 } from './migrations/1797000000000-filters-use-their-indexes.js';
import { RunsOfInstances1798000000000 } from './migrations/1798000000000-runs-of-instances.js';
import { ListsOfMillions1798500000000 } from './migrations/1798500000000-lists-of-millions.js';

/** `{connectionString}` or `{host, port, user, password, database}`; a host that starts with `/` is a socket folder. */
export type DatabaseConnection = Pick<
  PoolConfig,
  'connectionString' | 'host' | 'port' | 'user' | 'password' | 'database' | 'ssl'
>;

export interface DatabaseOptions {
  readonly connection: DatabaseConnection;
  /** Classes and schemas of the read models; this folder knows none of them. */
  readonly entities: readonly (EntitySchema | (new () => object))[];
  /** Default 8 connections. */
  readonly poolSize?: number;
  /** Gets errors of idle connections, which the pool replaces by itself. */
  readonly onPoolError?: (error: Error) => void;
}

/** In the order in which they run, for ever; never edited once released. */
const migrations = [
  FirstTables1780000000000,
  EventLog1780100000000,
  ProjectionWriter1780200000000,
  SeveralEngines1780300000000,
  Suspensions1780400000000,
  Circuits1780500000000,
  TenantPolicies1781000000000,
  DataKeys1782000000000,
  Erasure1782100000000,
  BlueGreen1783000000000,
  Parking1783100000000,
  Audit1784000000000,
  AuditSearch1784100000000,
  ProviderReasons1785000000000,
  Suppressions1787000000000,
  Legs1788000000000,
  Inbox1791000000000,
  StatusWebhooks1792000000000,
  Retention1793000000000,
  ReadingCheckpoints1795000000000,
  Engagement1795100000000,
  AnalystViews1795200000000,
  FiltersUseTheirIndexes1797000000000,
  RunsOfInstances1798000000000,
  ListsOfMillions1798500000000,
];

/** Any number that nobody else uses for pg_advisory_lock; "WAYB". */
const MIGRATION_LOCK = 0x57415942;

/**
 * Connects and brings the schema up to date. Several instances may start at once: one migrates, the others wait.
 *
 * @throws when the server cannot be reached or a migration fails; nothing stays open then
 */
export async function openDatabase(options: DatabaseOptions): Promise<DataSource> {
  const database = new DataSource({
    type: 'postgres',
    // The driver would take a connection string apart by its own rules; pg's are the ones our other connections use.
    // Pipelined: the frame of a transaction costs readers no round trip of its own.
    extra: { ...options.connection, application_name: 'waybill', connectionTimeoutMillis: 10_000, pipeline: true },
    // The lock takes one connection while the migrations use another.
    poolSize: Math.max(2, options.poolSize ?? 8),
    poolErrorHandler: options.onPoolError ?? (() => {}),
    entities: [...options.entities],
    migrations,
    migrationsTransactionMode: 'each',
    installExtensions: false,
    synchronize: false,
  });
  await database.initialize();
  try {
    await migrate(database);
  } catch (error) {
    await database.destroy();
    throw error;
  }
  return database;
}

async function migrate(database: DataSource): Promise<void> {
  const lock = database.createQueryRunner();
  try {
    await lock.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await database.runMigrations();
  } finally {
    await lock.query('select pg_advisory_unlock($1)', [MIGRATION_LOCK]).catch(() => {});
    await lock.release();
  }
}

export interface PoolSettings {
  /** What an operator sees in pg_stat_activity. */
  readonly name: string;
  readonly size: number;
  readonly lost: (error: Error) => void;
  /** Default none: how long a statement, and before it a connection, is waited for. */
  readonly answerWithinMs?: number;
}

/** Connections for statements of our own. One that breaks is replaced; what it was doing rejects, and nothing else. */
export function openPool(connection: DatabaseConnection, { name, size, lost, answerWithinMs }: PoolSettings): pg.Pool {
  const patience = answerWithinMs !== undefined && {
    connectionTimeoutMillis: answerWithinMs,
    query_timeout: answerWithinMs,
  };
  const pool = new pg.Pool({ ...connection, ...patience, max: size, application_name: name });
  pool.on('error', lost);
  // The pool listens to idle ones only. One that breaks between two statements of a transaction says so to its owner.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}
