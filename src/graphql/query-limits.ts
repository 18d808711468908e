import type { DocumentNode, GraphQLSchema } from 'graphql';
import { type ComplexityEstimator, getComplexity, simpleEstimator } from 'graphql-query-complexity';
import { ApiError } from './errors.js';
import { type Variables, variablesOf } from './variables.js';

interface PreExecution {
  readonly schema: GraphQLSchema;
  readonly document: DocumentNode;
  readonly variables?: Variables;
}

/** A page costs its size times what is asked of each item. */
const pages: ComplexityEstimator = ({ args, childComplexity }) =>
  typeof args.first === 'number' ? 1 + Math.max(args.first, 1) * childComplexity : undefined;

/**
 * Refuses queries that ask for too much before they run. Only reads: what a mutation may do is bounded by its input.
 * Gives the variables back that were kept aside.
 *
 * @param most in points: one for each field, times the page size of the lists around it
 */
export function guardQueries(most: number) {
  return async (_schema: unknown, document: DocumentNode, context: unknown, given?: Variables) => {
    const kept = variablesOf(context);
    const variables = kept ?? given;
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
