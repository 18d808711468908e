import { afterAll, beforeAll, expect, it } from 'vitest';
import { openDatabase } from '../../../src/platform/database.js';
import { COUNTERS } from '../../../src/projections/dashboard.js';
import { entities } from '../../../src/projections/entities.js';
import { projections } from '../../../src/projections/registry.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let server: TestDatabase;

beforeAll(async () => {
  server = await testDatabase();
});
afterAll(() => server.close());

const open = () => openDatabase({ connection: { connectionString: server.url }, entities, poolSize: 2 });

it('is migrated once by instances that start together', async () => {
  const databases = await Promise.all([open(), open(), open()]);
  const applied = await Promise.all(databases.map((database) => database.query('select name from migrations')));
  const names = databases[0]?.migrations.map(({ name }) => ({ name }));
  for (const rows of applied) expect(rows).toEqual(names);
  await Promise.all(databases.map((database) => database.destroy()));
});

it('has what entities and projections name, and a way back', async () => {
  const database = await open();
  for (const entity of entities) expect(await database.getRepository(entity).find()).toEqual([]);
  for (const table of projections.flatMap(({ tables }) => tables))
    expect(await database.query(`select * from ${table}`)).toEqual([]);
  await database.query(`select ${COUNTERS.join(', ')} from dashboard_hours`);
  for (const _ of database.migrations) await database.undoLastMigration();
  const left = await database.query(`select tablename from pg_tables where schemaname = 'public'`);
  expect(left).toEqual([{ tablename: 'migrations' }]);
  await database.destroy();
});

it('says why it cannot be reached', async () => {
  const connection = { connectionString: server.url.replace(/test_[0-9a-f]+/, 'not_there') };
  await expect(openDatabase({ connection, entities })).rejects.toThrow('not_there');
});
