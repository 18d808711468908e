import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Column, type ColumnType, encodeColumn, rowWriter } from '../../../src/projections/columns.js';
import { Connection } from '../../../src/projections/runner/connection.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let server: TestDatabase;
let client: pg.Client;
let connection: Connection;

beforeAll(async () => {
  server = await testDatabase();
  client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(`set timezone = 'UTC'`);
  connection = await Connection.open({ connectionString: server.url }, () => {});
});
afterAll(async () => {
  await connection.close();
  await client.end();
  await server.close();
});

/** What Postgres makes of values that are sent as one array. */
async function stored(type: ColumnType, values: readonly unknown[], as = ''): Promise<unknown[]> {
  const isArray = type.endsWith('[]');
  const value = isArray ? `value::${type}` : `value${as}`;
  const { rows } = await client.query(
    `select ${value} as value from unnest($1::${isArray ? 'text' : type}[]) with ordinality as u(value, n) order by n`,
    [encodeColumn({ name: 'value', type, of: (row) => row }, values)],
  );
  return rows.map((row) => row.value);
}

/** What Postgres makes of the same values as rows that are copied, and as rows that replace others. */
async function written(type: ColumnType, values: readonly unknown[], as = ''): Promise<unknown[][]> {
  interface Row {
    readonly n: number;
    readonly value: unknown;
  }
  const columns: Column<Row>[] = [
    { name: 'value', type, of: ({ value }) => value },
    { name: 'n', type: 'integer', of: ({ n }) => n },
    { name: 'again', type, of: ({ value }) => value },
  ];
  const table = `things_${type.replace('[]', '_list')}`;
  await client.query(`drop table if exists ${table};
    create table ${table} (n integer primary key, value ${type}, again ${type})`);
  const write = rowWriter(table, columns, ['n'], { value: 'excluded.value', again: 'excluded.again' });
  const rows = values.map((value, n) => ({ n, value }));
  const found = [];
  for (const some of [
    { added: rows, others: [] },
    { added: [], others: rows },
  ]) {
    await connection.batch(write(some));
    const { rows } = await client.query(`select value${as} as value, again${as} as again from ${table} order by n`);
    for (const { value, again } of rows) expect(again).toEqual(value);
    found.push(rows.map(({ value }) => value));
    await client.query(`update ${table} set value = null, again = null`);
  }
  return found;
}

const nullable = <T>(values: fc.Arbitrary<T>) => fc.array(fc.option(values), { minLength: 1, maxLength: 50 });
const text = fc.oneof(fc.string({ maxLength: 100 }), fc.string({ unit: 'grapheme', maxLength: 100 }));
const replaced = (value: string) => value.replaceAll('\0', '\ufffd');

const cases: [ColumnType, string, fc.Arbitrary<unknown>, (value: never) => unknown][] = [
  ['text', '', text, replaced],
  ['uuid', '', fc.uuid(), (value) => value],
  ['boolean', '', fc.boolean(), (value) => value],
  ['integer', '', fc.integer(), (value) => value],
  ['bigint', '::text', fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), String],
  ['bigint', '::text', fc.maxSafeInteger(), String],
  ['jsonb', '', fc.jsonValue(), (value) => JSON.parse(JSON.stringify(value).replaceAll('\\u0000', '\ufffd'))],
  ['text[]', '', fc.array(text), (value: string[]) => value.map(replaced)],
  ['uuid[]', '', fc.array(fc.uuid()), (value) => value],
  [
    'timestamptz',
    '',
    fc.date({ min: new Date('1900-01-01T00:00:00Z'), max: new Date('2500-01-01T00:00:00Z'), noInvalidDate: true }),
    (value: Date) => value,
  ],
];

it.each(cases)('%s%s arrives as it was', async (type, as, values, expected) => {
  await fc.assert(
    fc.asyncProperty(nullable(values), async (some) => {
      const sent = type === 'timestamptz' ? some.map((value) => (value as Date | null)?.toISOString() ?? null) : some;
      const wanted = some.map((value) => (value === null ? null : expected(value as never)));
      expect(await stored(type, sent, as)).toEqual(wanted);
      expect(await written(type, sent, as)).toEqual([wanted, wanted]);
    }),
    { numRuns: 60 },
  );
});

it('what JSON has and Postgres has not is replaced', async () => {
  expect(await stored('text', ['a\0b', '\ud800', `${'x'.repeat(200)}\0`])).toEqual([
    'a\ufffdb',
    '\ufffd',
    `${'x'.repeat(200)}\ufffd`,
  ]);
  expect(await stored('jsonb', [{ 'k\0': 'v\0', half: '\udc00', text: '\\u0000' }])).toEqual([
    { 'k\ufffd': 'v\ufffd', half: '\ufffd', text: '\\u0000' },
  ]);
});

it.each(['', 'x', '0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0', '0f0f0f0f00f0f-0f0f-0f0f-0f0f0f0f0f0f', 'g'.repeat(36)])(
  'no uuid is made of %j',
  (value) => {
    expect(() => encodeColumn({ name: 'value', type: 'uuid', of: (row) => row }, [value])).toThrow('is not a uuid');
  },
);

it('rows that Postgres refuses are named, and leave the connection as it was', async () => {
  await client.query('create table few (n integer primary key check (n < 3))');
  const columns: Column<number>[] = [{ name: 'n', type: 'integer', of: (n) => n }];
  const write = rowWriter('few', columns, ['n'], { n: 'excluded.n' });
  const [copy] = write({ added: [1, 2, 3], others: [] });
  const [insert] = write({ added: [], others: [1] });
  const batch = [insert, copy, insert].flatMap((statement) => statement ?? []);
  await expect(connection.batch(batch)).rejects.toMatchObject({ statement: copy, code: '23514' });
  expect((await client.query('select n from few')).rows).toEqual([]);

  // In a transaction that has failed, the rows are passed over with the statement.
  const unknown = { name: 'unknown', text: 'insert into nothing values (1)', values: [] };
  const rows = write({ added: Array.from({ length: 100_000 }, (_, n) => n), others: [] });
  await expect(connection.batch([unknown, ...rows])).rejects.toMatchObject({ statement: unknown });
  await connection.batch(write({ added: [0, 2], others: [1] }));
  expect((await client.query('select n from few order by n')).rows).toEqual([{ n: 0 }, { n: 1 }, { n: 2 }]);
});
