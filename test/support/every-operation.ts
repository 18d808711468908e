import {
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputField,
  type GraphQLInputType,
  type GraphQLOutputType,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
} from 'graphql';

/** What an attacker fills in wherever the schema asks for something. */
export interface Loot {
  readonly organizationId: string | undefined;
  readonly id: string;
  readonly destinationId: string;
  readonly deliveryId: string;
  readonly cursor: string;
  readonly config: object;
}

/** One call of an operation, with variables of the right types made of `loot`; arguments it does not need stay away. */
export function callOf(
  root: 'query' | 'mutation' | 'subscription',
  field: GraphQLField<unknown, unknown>,
  loot: Loot,
): { readonly query: string; readonly variables: Record<string, unknown> } {
  const args = field.args.filter((arg) => isRequiredArgument(arg) || isOfInterest(arg, loot));
  const variables = Object.fromEntries(args.map((arg) => [arg.name, valueFor(arg, arg.type, loot)]));
  const declared = args.map((arg) => `$${arg.name}: ${arg.type}`).join(', ');
  const passed = args.map((arg) => `${arg.name}: $${arg.name}`).join(', ');
  const call = `${field.name}${passed && `(${passed})`}${selectionOf(field.type, 4)}`;
  return { query: `${root}${declared && ` (${declared})`} { ${call} }`, variables };
}

const OF_INTEREST = new Set(['id', 'filter', 'after', 'destinationId', 'deliveryId', 'dependsOn', 'to', 'prefix']);

const isOfInterest = ({ name }: { name: string }, { organizationId }: Loot): boolean =>
  name === 'organizationId' ? organizationId !== undefined : OF_INTEREST.has(name);

function valueFor(
  { name }: Pick<GraphQLArgument | GraphQLInputField, 'name'>,
  type: GraphQLInputType,
  loot: Loot,
): unknown {
  if (isNonNullType(type)) return valueFor({ name }, type.ofType, loot);
  if (isListType(type)) return [valueFor({ name }, type.ofType, loot)];
  if (isInputObjectType(type))
    return Object.fromEntries(
      Object.values(type.getFields())
        .filter((field) => isRequiredInputField(field) || isOfInterest(field, loot))
        .map((field) => [field.name, valueFor(field, field.type, loot)]),
    );
  if (isEnumType(type)) return type.name === 'ChannelType' ? 'WEBHOOK' : type.getValues()[0]?.name;
  const byName: Record<string, unknown> = {
    organizationId: loot.organizationId,
    after: loot.cursor,
    id: loot.id,
    destinationId: loot.destinationId,
    deliveryId: loot.deliveryId,
    dependsOn: loot.deliveryId,
    prefix: 'wbl_',
    roles: 'sender',
    name: 'deliveries',
  };
  if (name in byName) return byName[name];
  const byType: Record<string, unknown> = {
    Int: 1,
    Float: 1,
    Boolean: true,
    DateTime: name === 'from' ? '2020-01-01T00:00:00Z' : '2099-01-01T00:00:00Z',
    Position: '999999999',
    JSON: loot.config,
  };
  return byType[type.name] ?? 'x';
}

/** Every field that can be asked without arguments, some levels deep. */
function selectionOf(type: GraphQLOutputType, depth: number): string {
  const named = getNamedType(type);
  if (isLeafType(named)) return '';
  if (!isObjectType(named)) return ' { __typename }';
  const fields = Object.values(named.getFields()).filter(
    (field) => !field.args.some(isRequiredArgument) && (isLeafType(getNamedType(field.type)) || depth > 1),
  );
  return ` { ${fields.map((field) => field.name + selectionOf(field.type, depth - 1)).join(' ')} }`;
}
