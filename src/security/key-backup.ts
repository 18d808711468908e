import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Pool } from 'pg';

/**
 * The wrapped keys as a file: a line that says whose they are, then one for each key, as JSON. Nothing in it can be read
 * without the key ring, which is not in it.
 */
interface Header {
  readonly format: 1;
  readonly installation: string;
}
const TABLES = ['installation', 'key_encryption_keys', 'data_keys'] as const;
const PAGE = 1_000;

/**
 * Writes all keys, destroyed ones too. To be called after the log was copied: a key is older than the first event that
 * needs it.
 *
 * @param file must not exist @returns how many data keys; 0 when there are no keys yet, and then no file
 */
export async function exportKeys(pool: Pool, file: string): Promise<number> {
  const { rows } = await pool.query<{ id: string }>('select id from waybill_keys.installation');
  const installation = rows[0]?.id;
  if (installation === undefined) return 0;
  const handle = await open(file, 'wx', 0o600);
  try {
    const header: Header = { format: 1, installation };
    await handle.write(`${JSON.stringify(header)}\n`);
    let count = 0;
    for (const table of TABLES)
      for await (const page of pagesOf(pool, table)) {
        await handle.write(page.map((row) => `${JSON.stringify({ table, row })}\n`).join(''));
        if (table === 'data_keys') count += page.length;
      }
    await handle.sync();
    return count;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** Rows as Postgres writes them as JSON, bytes as `\x…`, which it also reads. */
async function* pagesOf(pool: Pool, table: (typeof TABLES)[number]): AsyncGenerator<object[]> {
  if (table !== 'data_keys') {
    const { rows } = await pool.query<{ row: object }>(`select to_jsonb(t) as row from waybill_keys.${table} t`);
    yield rows.map(({ row }) => row);
    return;
  }
  for (let after = ''; ; ) {
    const { rows } = await pool.query<{ id: string; row: object }>(
      'select id, to_jsonb(t) as row from waybill_keys.data_keys t where id > $1 order by id limit $2',
      [after, PAGE],
    );
    if (rows.length === 0) return;
    yield rows.map(({ row }) => row);
    after = rows.at(-1)?.id as string;
  }
}

/**
 * Adds the keys of a backup to the database. What the database knows of a key counts, so one that was destroyed since stays
 * destroyed. May be done again.
 *
 * @throws Error, one line: the file is damaged, or the database has keys of another Waybill; it has what it had then
 */
export async function importKeys(pool: Pool, file: string): Promise<number> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    let header: Header | undefined;
    let batch: { readonly table: string; readonly row: object }[] = [];
    let count = 0;
    const store = async () => {
      for (const table of TABLES) {
        const rows = batch.filter((line) => line.table === table).map(({ row }) => row);
        if (rows.length === 0) continue;
        const { rowCount } = await client.query(
          `insert into waybill_keys.${table}
           select * from jsonb_populate_recordset(null::waybill_keys.${table}, $1) on conflict do nothing`,
          [JSON.stringify(rows)],
        );
        if (table === 'data_keys') count += rowCount ?? 0;
      }
      batch = [];
    };
    // Opened here: lines that come before somebody asks for them are lost.
    for await (const line of createInterface({ input: createReadStream(file) })) {
      const read = JSON.parse(line) as Header & { readonly table: string; readonly row: object };
      if (!header) {
        header = read;
        const { rows } = await client.query<{ id: string }>('select id from waybill_keys.installation');
        if (header.format !== 1 || (rows[0] && rows[0].id !== header.installation))
          throw new Error('the database has the keys of another Waybill');
        continue;
      }
      batch.push(read);
      if (batch.length === PAGE) await store();
    }
    await store();
    await client.query('commit');
    return count;
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw new Error(`the keys in ${file} cannot be restored: ${(error as Error).message}`, { cause: error });
  } finally {
    client.release();
  }
}
