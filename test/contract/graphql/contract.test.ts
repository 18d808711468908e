import { readFileSync } from 'node:fs';
import {
  buildSchema,
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputField,
  isEnumType,
  isInputObjectType,
  isObjectType,
  isScalarType,
} from 'graphql';
import { expect, test } from 'vitest';

/** Clients and outside checks are written against the published contract; our schema may add to it, never differ. */
const contract = buildSchema(readFileSync(new URL('../../golden/contract.graphql', import.meta.url), 'utf8'));
const ours = buildSchema(readFileSync(new URL('../../../src/graphql/schema.graphql', import.meta.url), 'utf8'));

const types = Object.values(contract.getTypeMap()).filter(({ name }) => !name.startsWith('__'));

test.each(types.map((type) => [type.name, type] as const))('%s is as the contract has it', (name, type) => {
  const own = ours.getType(name);
  expect(own?.constructor.name, `${name} is a ${type.constructor.name}`).toBe(type.constructor.name);
  if (isScalarType(type)) return;
  if (isEnumType(type) && isEnumType(own))
    expect(own.getValues().map((value) => value.name)).toEqual(type.getValues().map((value) => value.name));
  if (isInputObjectType(type) && isInputObjectType(own)) {
    expect(shapes(Object.values(own.getFields()))).toMatchObject(shapes(Object.values(type.getFields())));
    const added = Object.values(own.getFields()).filter((field) => !(field.name in type.getFields()));
    expect(added.filter(isRequired), 'an added input field must not be required').toEqual([]);
  }
  if (isObjectType(type) && isObjectType(own)) {
    for (const field of Object.values(type.getFields())) {
      const served = own.getFields()[field.name];
      const known = served && {
        ...served,
        args: served.args.filter(({ name }) => field.args.some((arg) => arg.name === name)),
      };
      expect(signature(known), `${name}.${field.name}`).toEqual(signature(field));
      const added = served?.args.filter((arg) => !known?.args.includes(arg)) ?? [];
      expect(added.filter(isRequired), 'an added argument must not be required').toEqual([]);
    }
  }
});

const shapes = (fields: readonly GraphQLInputField[]) =>
  Object.fromEntries(fields.map((field) => [field.name, { type: String(field.type), default: field.defaultValue }]));

const isRequired = (field: GraphQLInputField | GraphQLArgument) =>
  String(field.type).endsWith('!') && field.defaultValue === undefined;

const signature = (field: GraphQLField<unknown, unknown> | undefined) =>
  field && {
    type: String(field.type),
    args: field.args.map((arg: GraphQLArgument) => [arg.name, String(arg.type), arg.defaultValue]),
  };
