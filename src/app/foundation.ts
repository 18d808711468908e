import type { Logger } from 'pino';
import type { Config } from '../platform/config.js';
import { openDataDirectory } from '../platform/data-directory.js';
import { startPostgres } from '../platform/embedded-postgres.js';
import type { Closings } from './closings.js';

export type Foundation = Awaited<ReturnType<typeof layFoundation>>;

/**
 * Locks the data directory and starts PostgreSQL, or says which one is used. Little has to be loaded for that, so it goes on while
 * the rest is.
 *
 * @throws Error, one line for the operator
 */
export async function layFoundation(config: Config, logger: Logger, closings: Closings) {
  const directory = await openDataDirectory(config.dataDir);
  closings.push(() => directory.release());
  const postgres = config.databaseUrl
    ? { connectionString: config.databaseUrl }
    : await startEmbeddedPostgres(config, directory.instanceId, logger, closings);
  return { directory, postgres };
}

async function startEmbeddedPostgres(config: Config, instanceId: string, logger: Logger, closings: Closings) {
  const postgres = await startPostgres({
    dataDir: config.dataDir,
    instanceId,
    log: logger.child({ part: 'postgres' }),
    restart: true,
  });
  closings.push(() => postgres.stop());
  return postgres.connection;
}
