import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClientConfig } from 'pg';
import { startPostgres } from '../../src/platform/embedded-postgres.js';
import { projections } from '../../src/projections/registry.js';
import { Connection } from '../../src/projections/runner/connection.js';
import { digest } from '../../src/projections/runner/digest.js';

const silent = { info: () => undefined, error: () => undefined };

/** Where the embedded PostgreSQL of a data directory listens; a Waybill that was killed has left it running. */
export async function databaseOf({ dataDir }: { readonly dataDir: string }): Promise<ClientConfig> {
  const instanceId = (await readFile(join(dataDir, 'instance.id'), 'utf8')).trim();
  // The running server answers, so it is only looked up; it is not ours to stop.
  return (await startPostgres({ dataDir, instanceId, log: silent })).connection;
}

/** A fingerprint of the rows of each read model of a running Waybill, by the name of the projection. */
export async function digests(waybill: { readonly dataDir: string }): Promise<Record<string, string>> {
  return await digestsIn(await databaseOf(waybill));
}

/** The same of a database that several instances share. */
export async function digestsIn(database: ClientConfig): Promise<Record<string, string>> {
  const connection = await Connection.open(database, () => undefined);
  try {
    const all = projections.map(async (projection) => [projection.name, (await digest(connection, projection)).sha256]);
    return Object.fromEntries(await Promise.all(all));
  } finally {
    await connection.close();
  }
}
