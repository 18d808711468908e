import type { DataSource } from 'typeorm';
import { type Environment, loadConfig } from '../platform/config.js';
import { openDatabase } from '../platform/database.js';
import { say } from './log-output.js';

/** Brings the tables of a PostgreSQL up to date, as every start does. @throws Error, one line */
export async function migrate(env: Environment, { json = false }: { json?: boolean }): Promise<void> {
  await withDatabase(env, async (database) => {
    const [newest] = await database.query<{ name: string }[]>(
      'select name from migrations order by timestamp desc limit 1',
    );
    say(json ? JSON.stringify({ newest: newest?.name }) : `The tables are up to date: ${newest?.name}.`);
  });
}

/** With the PostgreSQL of DATABASE_URL, up to date. @throws Error, one line, when there is none */
export async function withDatabase(env: Environment, work: (database: DataSource) => Promise<void>): Promise<void> {
  const { databaseUrl } = loadConfig(env, { cwd: process.cwd() });
  if (databaseUrl === undefined)
    throw new Error(
      'DATABASE_URL is not set: the embedded PostgreSQL is for Waybill alone, and up to date at each start.',
    );
  const database = await openDatabase({ connection: { connectionString: databaseUrl }, entities: [] }).catch(
    (error: Error) => {
      throw new Error(`DATABASE_URL: ${error.message}`);
    },
  );
  try {
    await work(database);
  } finally {
    await database.destroy();
  }
}
