import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ColumnType, encodeColumn } from '../../../src/projections/columns.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let server: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  server = await testDatabase();
  client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(`set timezone = 'UTC'`);
});
afterAll(async () => {
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
