import { type Database, open, type RootDatabase } from 'lmdb';

export interface RawTables {
  readonly env: RootDatabase;
  readonly records: Database<Buffer, number>;
  readonly index: Database<number, [string, number]>;
}

/** Opens the tables of a closed log behind its back, to change what it would never change. */
export async function changeTables(path: string, change: (tables: RawTables) => Promise<unknown>): Promise<void> {
  const env = open({ path, maxDbs: 8, overlappingSync: false, noSubdir: false });
  const records = env.openDB<Buffer, number>('log', { encoding: 'binary' });
  const index = env.openDB<number, [string, number]>('index', {});
  await change({ env, records, index });
  await env.close();
}
