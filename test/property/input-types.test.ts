import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { buildSchema, coerceInputValue, type GraphQLInputType, type GraphQLSchema } from 'graphql';
import { expect, it } from 'vitest';
import { listFieldsQuickly } from '../../src/graphql/input-types.js';

const schema = () => buildSchema(readFileSync(new URL('../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
const [asBuilt, quick] = [schema(), listFieldsQuickly(schema())];

/** What an input is made into, or every problem with it. */
function coerced(of: GraphQLSchema, input: unknown) {
  const problems: string[] = [];
  const type = of.getType('RequestDeliveryInput') as GraphQLInputType;
  const value = coerceInputValue(input, type, (path, _, { message }) => problems.push(`${path.join('.')}: ${message}`));
  return problems.length > 0 ? problems : value;
}

const NAMES = [
  'constructor',
  '__proto__',
  'toString',
  'organizationId',
  'to',
  'content',
  'priority',
  'data',
  'channel',
];
const inputs = fc.letrec((tie) => ({
  input: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<unknown>('HIGH', 'EMAIL', 'x', '', 1, true, null, undefined),
    fc.dictionary(fc.constantFrom(...NAMES), tie('input'), { maxKeys: 5 }),
    fc.array(tie('input'), { maxLength: 3 }),
  ),
})).input;

it('inputs are taken and refused as if nothing had been done to their types', () => {
  fc.assert(
    fc.property(inputs, (input) => {
      expect(coerced(quick, input)).toEqual(coerced(asBuilt, input));
    }),
    { numRuns: 1_000 },
  );
});

it('a field that every JavaScript object has is no field of an input', () => {
  const problems = coerced(quick, { constructor: 'x' });
  expect(problems).toEqual([': Field "constructor" is not defined by type "RequestDeliveryInput".']);
});
