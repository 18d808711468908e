import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pool } from 'pg';
import type { Config } from './config.js';
import { DataDirectoryError, openDataDirectory } from './data-directory.js';
import { type DatabaseConnection, openPool } from './database.js';
import { startPostgres } from './embedded-postgres.js';

const SILENT = { info: () => undefined, error: () => undefined };

/**
 * For the command line: does something with the database of a Waybill that may be running or not. The embedded PostgreSQL
 * of one that runs is visited; of one that does not it is started, and stopped again.
 */
export async function visitDatabase<Result>(
  { databaseUrl, dataDir }: Pick<Config, 'databaseUrl' | 'dataDir'>,
  work: (pool: Pool) => Promise<Result>,
): Promise<Result> {
  if (databaseUrl !== undefined) return await withPool({ connectionString: databaseUrl }, work);
  const held = await openDataDirectory(dataDir).catch((error: unknown) => {
    if (error instanceof DataDirectoryError && error.message.includes('is in use by')) return undefined;
    throw error;
  });
  try {
    const instanceId = held?.instanceId ?? (await readFile(join(dataDir, 'instance.id'), 'utf8')).trim();
    const postgres = await startPostgres({ dataDir, instanceId, log: SILENT });
    try {
      return await withPool(postgres.connection, work);
    } finally {
      if (held) await postgres.stop();
    }
  } finally {
    held?.release();
  }
}

async function withPool<Result>(connection: DatabaseConnection, work: (pool: Pool) => Promise<Result>) {
  const pool = openPool(connection, { name: 'waybill-cli', size: 2, lost: () => undefined });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}
