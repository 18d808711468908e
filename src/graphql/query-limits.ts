import type { DocumentNode, GraphQLSchema, SelectionSetNode } from 'graphql';
import { type ComplexityEstimator, getComplexity, simpleEstimator } from 'graphql-query-complexity';
import { ApiError } from './errors.js';
import type { RequestContext } from './request-context.js';
import { takeVariables, type Variables } from './variables.js';

interface PreExecution {
  readonly schema: GraphQLSchema;
  readonly document: DocumentNode;
  readonly variables?: Variables;
}

/** A page costs its size times what is asked of each item. */
const pages: ComplexityEstimator = ({ args, childComplexity }) =>
  typeof args.first === 'number' ? 1 + Math.max(args.first, 1) * childComplexity : undefined;

export interface QueryLimits {
  /** In points: one for each field, times the page size of the lists around it. */
  readonly maxQueryCost: number;
  /** Of one request, each by whatever name. */
  readonly maxMutations: number;
  readonly introspection: 'nobody' | 'administrators' | 'everyone';
}

/**
 * Refuses what asks for too much before it runs: reads by their cost, writes by their number (what one write may do is
 * bounded by its input). Gives the variables back that were kept aside.
 */
export function guardQueries({ maxQueryCost: most, maxMutations, introspection }: QueryLimits) {
  return async (_schema: unknown, document: DocumentNode, context: unknown, given?: Variables) => {
    const kept = takeVariables(context);
    const variables = kept ?? given;
    const { mutations, introspects } = rootFields(document);
    if (mutations > maxMutations) throw tooMany(mutations, maxMutations);
    const { principal } = context as RequestContext;
    const mayIntrospect =
      introspection === 'everyone' || (introspection === 'administrators' && principal.isInstallationAdmin);
    if (introspects && !mayIntrospect)
      throw new ApiError('FORBIDDEN', 'introspection is not open to these credentials');
    const isRead = document.definitions.some(
      (each) => each.kind === 'OperationDefinition' && each.operation !== 'mutation',
    );
    if (isRead) {
      const schema = (context as { app: { graphql: { schema: GraphQLSchema } } }).app.graphql.schema;
      const cost = costOf({ schema, document, ...(variables && { variables }) });
      if (cost > most) throw tooMuch(cost, most);
    }
    return kept ? { variables: kept } : {};
  };
}

/** The same for what a subscription asks for with each event. None of it is a page, so its variables change nothing. */
export function guardSubscriptions({ maxQueryCost: most }: Pick<QueryLimits, 'maxQueryCost'>) {
  return async (schema: GraphQLSchema, document: DocumentNode): Promise<void> => {
    const definitions = document.definitions.map((each) =>
      each.kind === 'OperationDefinition' ? { ...each, variableDefinitions: [] } : each,
    );
    const cost = costOf({ schema, document: { ...document, definitions } });
    if (cost > most) throw tooMuch(cost, most);
  };
}

/** How many writes a document asks for, fragments and aliases included, and whether it asks for the schema. */
function rootFields({ definitions }: DocumentNode): { mutations: number; introspects: boolean } {
  const fragments = new Map<string, SelectionSetNode>();
  for (const each of definitions)
    if (each.kind === 'FragmentDefinition') fragments.set(each.name.value, each.selectionSet);
  const found = { mutations: 0, introspects: false };
  // Fragments can fan out exponentially, so counting ends where the answer is known.
  const count = (selections: SelectionSetNode, isMutation: boolean): void => {
    for (const each of selections.selections) {
      if (found.mutations > MAX_COUNTED) return;
      const inner = each.kind === 'FragmentSpread' ? fragments.get(each.name.value) : undefined;
      if (inner) count(inner, isMutation);
      else if (each.kind === 'InlineFragment') count(each.selectionSet, isMutation);
      else if (each.kind === 'Field') {
        if (isMutation) found.mutations++;
        else found.introspects ||= each.name.value === '__schema' || each.name.value === '__type';
      }
    }
  };
  for (const each of definitions)
    if (each.kind === 'OperationDefinition') count(each.selectionSet, each.operation === 'mutation');
  return found;
}

const MAX_COUNTED = 10_000;

const tooMany = (mutations: number, most: number): ApiError =>
  new ApiError('BAD_USER_INPUT', `this request has ${mutations} mutations, more than the limit of ${most}`, [
    { path: 'query', problem: `has ${mutations} mutations, more than the limit of ${most}` },
  ]);

const tooMuch = (cost: number, most: number): ApiError =>
  new ApiError(
    'BAD_USER_INPUT',
    `this query costs ${cost} points, more than the limit of ${most}: ask for less at once`,
    [{ path: 'query', problem: `costs ${cost} points, more than the limit of ${most}` }],
  );

const costOf = ({ schema, document, variables }: PreExecution): number =>
  getComplexity({
    schema,
    query: document,
    variables: variables ?? {},
    estimators: [pages, simpleEstimator({ defaultComplexity: 1 })],
  });
