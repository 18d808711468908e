import { expect, it } from 'vitest';
import { openPool } from '../../../src/platform/database.js';
import { testDatabase } from '../../support/postgres.js';

it('survives the loss of a connection that is in the middle of a transaction', async () => {
  const database = await testDatabase();
  const lost: string[] = [];
  const settings = { name: 'pool-test', size: 2, lost: ({ message }: Error) => lost.push(message) };
  const pool = openPool({ connectionString: database.url }, settings);
  const client = await pool.connect();
  const broken = new Promise<Error>((resolve) => client.once('error', resolve));
  await client.query('begin');
  await pool.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'pool-test' and pid <> pg_backend_pid()`);
  // Were this the only one who listens, an error without anybody would have ended the process.
  expect((await broken).message).toContain('terminating connection');
  expect(client.listenerCount('error')).toBeGreaterThan(0);
  await expect(client.query('commit')).rejects.toThrow();
  client.release();
  const { rows } = await pool.query('select 1 as one');
  expect(rows).toEqual([{ one: 1 }]);
  expect(lost).toEqual([]);
  await pool.end();
  await database.close();
});
