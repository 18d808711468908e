import { readFileSync } from 'node:fs';
import { buildSchema, getNamedType, isEnumType, isInputObjectType, isObjectType } from 'graphql';
import { describe, expect, it } from 'vitest';
import { inOrder, propertyOf } from '../../../src/graphql/row-order.js';

/** Rows of aggregates in the order that clients ask for. */
const rows = [
  { provider: 'a', successRate: 0.5, attempts: 2, priority: 'LOW' },
  { provider: 'b', successRate: null, attempts: 9, priority: 'URGENT' },
  { provider: 'c', successRate: 0.5, attempts: 10, priority: 'NORMAL' },
  { provider: 'd', successRate: 0.25, attempts: 1, priority: 'HIGH' },
] as const;
const ordered = async (...orderBy: [string, 'ASC' | 'DESC'][]) =>
  (
    await inOrder(
      orderBy.map(([field, direction]) => ({ field, direction })),
      async () => rows,
    )
  )
    .map(({ provider }) => provider)
    .join('');

describe('the order of rows', () => {
  it.each<[[string, 'ASC' | 'DESC'][], string]>([
    [[], 'abcd'],
    [[['PROVIDER', 'DESC']], 'dcba'],
    [[['ATTEMPTS', 'ASC']], 'dabc'],
    [[['SUCCESS_RATE', 'ASC']], 'dacb'],
    [[['SUCCESS_RATE', 'DESC']], 'acdb'],
    [
      [
        ['SUCCESS_RATE', 'DESC'],
        ['ATTEMPTS', 'DESC'],
      ],
      'cadb',
    ],
    [[['PRIORITY', 'ASC']], 'bdca'],
  ])('by %j is %s', async (orderBy, expected) => {
    expect(await ordered(...orderBy)).toBe(expected);
  });

  it('is as the rows have it when none is asked for', async () => {
    expect(await inOrder(undefined, async () => rows)).toEqual(rows);
  });

  it('is not by more than five fields, and nothing is read for more', async () => {
    const six = Array.from({ length: 6 }, () => ({ field: 'TOTAL', direction: 'ASC' }) as const);
    const read = async () => expect.unreachable('was read');
    await expect(inOrder(six, read)).rejects.toThrow('orderBy: must not have more than 5 fields');
  });
});

/** Whatever can be asked for is a field of the rows, and every number or word of them can be asked for. */
it.each(['dashboard', 'sla', 'providerPerformance', 'deliveryPerformance', 'engagement'])(
  'the fields of %s',
  (query) => {
    const schema = buildSchema(readFileSync(new URL('../../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
    const field = schema.getQueryType()?.getFields()[query];
    const row = field && getNamedType(field.type);
    const order = getNamedType(field?.args.find(({ name }) => name === 'orderBy')?.type);
    if (!isObjectType(row) || !isInputObjectType(order)) return expect.unreachable('has no rows, or no order');
    const names = getNamedType(order.getFields().field?.type);
    if (!isEnumType(names)) return expect.unreachable('has no names of fields');
    const comparable = Object.values(row.getFields())
      .filter(({ type }) => !/JSON|\[/.test(String(type)))
      .map(({ name }) => name);
    expect(names.getValues().map(({ name }) => propertyOf(name))).toEqual(comparable);
  },
);
