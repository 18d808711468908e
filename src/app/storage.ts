import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { EventStoreLocation } from '../event-store/event-store.js';
import { identityOf } from '../event-store/log-identity.js';
import type { Config } from '../platform/config.js';
import { openDatabase, openPool } from '../platform/database.js';
import { matchDerivedState } from '../platform/derived-state.js';
import { entities } from '../projections/entities.js';
import type { Closings } from './closings.js';
import { openEventStore } from './event-log.js';
import type { Foundation } from './foundation.js';

/** A key that does not come in this time is UNAVAILABLE. */
const KEYS_WITHIN_MS = 5_000;

export type Storage = Awaited<ReturnType<typeof openStorage>>;

/**
 * Opens the event log and the database, which belong together.
 *
 * @throws Error, one line for the operator
 */
export async function openStorage(
  config: Config,
  { directory, postgres }: Foundation,
  logger: Logger,
  closings: Closings,
) {
  const { instanceId } = directory;
  const location = await locate(config, directory.path);
  const onTrouble = (error: Error) => logger.warn({ err: error }, 'the connection to the event store was lost');
  const log = await openEventStore(location, onTrouble).catch(naming('EVENTSTORE_URL', config.eventStoreUrl));
  closings.push(() => log.close());
  const identity = await identityOf(log);
  const headAtStart = await log.head();

  const database = await openDatabase({ connection: postgres, entities }).catch(
    naming('DATABASE_URL', config.databaseUrl),
  );
  closings.push(() => database.destroy());
  // The embedded database can be reached from this data directory only, and that is locked.
  const isAlone = !config.databaseUrl;
  await matchDerivedState(
    database,
    { ...identity, head: () => log.head() },
    { isShared: !isAlone, instanceId },
    logger,
  );
  const lost = (error: Error) => logger.warn({ err: error }, 'an idle database connection was lost');
  const pool = openPool(postgres, { name: 'waybill-engine', size: 4, lost });
  closings.push(() => pool.end());
  const keyPool = openPool(postgres, { name: 'waybill-keys', size: 2, answerWithinMs: KEYS_WITHIN_MS, lost });
  closings.push(() => keyPool.end());
  return { directory, instanceId, isAlone, postgres, location, log, identity, headAtStart, database, pool, keyPool };
}

/** The event store that is configured, else the embedded log, whose folder is made if it is missing. */
async function locate({ eventStoreUrl }: Config, dataDir: string): Promise<EventStoreLocation> {
  if (eventStoreUrl !== undefined) return { url: eventStoreUrl };
  const path = join(dataDir, 'log');
  await mkdir(path, { recursive: true, mode: 0o700 });
  return { path };
}

/** Says which setting an error is of, when it was set. */
const naming =
  (setting: string, value: string | undefined) =>
  (error: Error): never => {
    throw value ? new Error(`${setting}: ${error.message}`, { cause: error }) : error;
  };
