import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../../../src/platform/database.js';
import { DataKeys } from '../../../src/security/data-keys.js';
import { KeyEncryption, WrongKeyRing } from '../../../src/security/key-encryption.js';
import { KeyTable } from '../../../src/security/key-table.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let database: TestDatabase;
let pool: pg.Pool;
let statements = 0;
beforeAll(async () => {
  database = await testDatabase();
  await (await openDatabase({ connection: { connectionString: database.url }, entities: [] })).destroy();
  pool = new pg.Pool({ connectionString: database.url });
  const query = pool.query.bind(pool);
  pool.query = ((...args: Parameters<typeof query>) => {
    statements++;
    return query(...args);
  }) as typeof pool.query;
});
afterAll(async () => {
  await pool.end();
  await database.close();
});
beforeEach(async () => {
  await pool.query('truncate waybill_keys.data_keys');
  statements = 0;
});

const first = randomBytes(32);
const ring = { encryption: new KeyEncryption(new Map([[1, first]])), reload: async () => {} };
const open = (options = {}) => new DataKeys(new KeyTable(pool), ring, options);
const person = (name: string) => ({ subject: `person:${name}`, organizationId: 'clinic' });

describe('data keys', () => {
  it('are made when they are first needed, and are the same in every process from then on', async () => {
    const here = open();
    expect(here.ofSubject('person:jane')).toBeUndefined();
    await here.prepare([person('jane'), person('joe')]);
    const jane = here.ofSubject('person:jane');
    expect(jane?.key).toHaveLength(32);
    expect(jane?.key).not.toEqual(here.ofSubject('person:joe')?.key);
    expect(here.prepare([person('jane')])).toBeUndefined();

    const there = open();
    await there.load([jane?.id as string]);
    expect(there.byId(jane?.id as string)).toEqual(jane);
    await there.prepare([person('joe')]);
    expect(there.ofSubject('person:joe')).toEqual(here.ofSubject('person:joe'));
  });

  it('are fetched and made for all who wait with two statements', async () => {
    const keys = open();
    const wanted = Array.from({ length: 500 }, (_, index) => person(`p${index}`));
    const [one, ...rest] = wanted;
    if (!one) throw new Error('nobody');
    // The first goes at once; everybody else meanwhile shares the next batch.
    await Promise.all([keys.prepare([one]), ...rest.map((each) => Promise.resolve().then(() => keys.prepare([each])))]);
    expect(wanted.every(({ subject }) => keys.ofSubject(subject))).toBe(true);
    expect(statements).toBeLessThanOrEqual(4);
  });

  it('are one for each subject, however many processes want to make it at once', async () => {
    const processes = Array.from({ length: 8 }, () => open());
    await Promise.all(processes.map((keys) => keys.prepare([person('jane'), person('joe')])));
    const ids = new Set(processes.map((keys) => keys.ofSubject('person:jane')?.id));
    expect(ids.size).toBe(1);
    expect((await pool.query('select from waybill_keys.data_keys')).rowCount).toBe(2);
  });

  it('lie in the database wrapped, and open with the right key ring only', async () => {
    const keys = open();
    await keys.prepare([person('jane')]);
    const { id, key } = keys.ofSubject('person:jane') ?? { id: '', key: Buffer.alloc(0) };
    const { rows } = await pool.query('select wrapped from waybill_keys.data_keys');
    expect(rows[0].wrapped.includes(key)).toBe(false);
    const wrong = { encryption: new KeyEncryption(new Map([[1, randomBytes(32)]])), reload: async () => {} };
    await expect(new DataKeys(new KeyTable(pool), wrong).load([id])).rejects.toThrow(WrongKeyRing);
  });

  it('wrapped with a newer version are opened once the ring has been read again', async () => {
    const second = randomBytes(32);
    const rotated = new KeyEncryption(
      new Map([
        [1, first],
        [2, second],
      ]),
    );
    await new DataKeys(new KeyTable(pool), { ...ring, encryption: rotated }).prepare([person('jane')]);
    const late = {
      encryption: ring.encryption,
      async reload() {
        late.encryption = rotated;
      },
    };
    const keys = new DataKeys(new KeyTable(pool), late);
    await keys.prepare([person('jane')]);
    expect(keys.ofSubject('person:jane')?.key).toHaveLength(32);
  });

  it('are forgotten when they are destroyed, and a newcomer of the same name gets another one', async () => {
    const keys = open();
    await keys.prepare([person('jane')]);
    const { id } = keys.ofSubject('person:jane') ?? { id: '' };
    await pool.query('update waybill_keys.data_keys set wrapped = null, destroyed_at = now()');
    keys.forget([id]);
    expect([keys.byId(id), keys.ofSubject('person:jane')]).toEqual(['destroyed', undefined]);
    const elsewhere = open();
    await elsewhere.load([id]);
    expect(elsewhere.byId(id)).toBe('destroyed');
    await keys.prepare([person('jane')]);
    expect(keys.ofSubject('person:jane')?.id).not.toBe(id);
  });

  it('that are not there are missing, unless their loss was accepted', async () => {
    const [strict, lenient] = [open(), open({ acceptsMissing: true })];
    await Promise.all([strict.load(['lost']), lenient.load(['lost'])]);
    expect([strict.byId('lost'), lenient.byId('lost')]).toEqual([undefined, 'destroyed']);
  });

  it('are kept in a bounded cache', async () => {
    const keys = open({ cached: 10 });
    await keys.prepare(Array.from({ length: 100 }, (_, index) => person(`p${index}`)));
    const kept = Array.from({ length: 100 }, (_, index) => keys.ofSubject(`person:p${index}`)).filter(Boolean);
    expect(kept.length).toBeLessThanOrEqual(20);
  });

  it('cannot be had while the database is away, and those at hand still can', async () => {
    const away = new pg.Pool({ host: '127.0.0.1', port: 9 });
    const keys = new DataKeys(new KeyTable(away), ring);
    await expect(keys.prepare([person('jane')])).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(keys.load(['x'])).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await away.end();
  });
});
