import { GraphQLError, type GraphQLFormattedError } from 'graphql';
import type { Rejection } from '../domain/rejection.js';
import type { FieldProblem } from '../domain/vocabulary.js';

export type ErrorCode = Rejection['code'] | 'UNAUTHENTICATED' | 'RATE_LIMITED' | 'UNAVAILABLE' | 'INTERNAL';

/** An expected failure: it reaches the client as it is. */
export class ApiError extends GraphQLError {
  constructor(code: ErrorCode, message: string, fields?: readonly FieldProblem[]) {
    super(message, { extensions: { code, ...(fields && { fields }) } });
  }
}

export const badInput = (fields: readonly FieldProblem[]): ApiError =>
  new ApiError('BAD_USER_INPUT', fields.map(({ path, problem }) => `${path}: ${problem}`).join('; '), fields);

/** The value of an answer, or its rejection as an error. */
export function unwrap<Result extends { readonly ok: true }>(
  result: Result | { readonly ok: false; readonly rejection: Rejection },
): Result {
  if (result.ok) return result;
  const { code, message, fields } = result.rejection;
  throw new ApiError(code, message, fields);
}

interface Execution {
  readonly data?: unknown;
  readonly errors?: readonly GraphQLError[];
}

/**
 * What the client gets to see. Expected failures and mistakes in the query itself are explained; anything else is
 * logged with a reference and answered without its innards.
 */
export function errorFormatter(onUnexpected: (error: Error) => string) {
  return (
    execution: Execution,
  ): { statusCode: number; response: { data: unknown; errors: GraphQLFormattedError[] } } => {
    const errors = (execution.errors ?? []).flatMap(spread).map((error) => formatted(error, onUnexpected));
    const statusCode = errors.some(({ extensions }) => extensions?.code === 'UNAUTHENTICATED') ? 401 : 200;
    return { statusCode, response: { data: execution.data ?? null, errors } };
  };
}

/** Mercurius wraps what the parser and the validator found into one error. */
function spread(error: GraphQLError): GraphQLError[] {
  const inner = (error.originalError as { errors?: unknown } | undefined)?.errors;
  return Array.isArray(inner) ? (inner as GraphQLError[]) : [error];
}

function formatted(error: GraphQLError, onUnexpected: (error: Error) => string): GraphQLFormattedError {
  const original = error.originalError as (Error & { code?: string; statusCode?: number }) | null | undefined;
  const known = original instanceof ApiError ? original : error;
  const place = {
    ...(error.locations && { locations: error.locations }),
    ...(error.path && { path: error.path }),
  };
  if (known.extensions?.code !== undefined && known.extensions.code !== 'INTERNAL_SERVER_ERROR')
    return { message: known.message, ...place, extensions: known.extensions };
  if (isClientMistake(error, original))
    return {
      message: error.message,
      ...place,
      extensions: { code: 'BAD_USER_INPUT', fields: [fieldOf(error.message)] },
    };
  if (original && isUnavailable(original))
    return { message: 'temporarily unavailable; try again', ...place, extensions: { code: 'UNAVAILABLE' } };
  const reference = onUnexpected(original ?? error);
  return { message: `something went wrong here (reference ${reference})`, ...place, extensions: { code: 'INTERNAL' } };
}

/** No resolver ran: the query does not parse or validate, a variable has the wrong type, the body is not JSON. */
const isClientMistake = (
  error: GraphQLError,
  original: { code?: string; statusCode?: number } | null | undefined,
): boolean => {
  if (!(error instanceof GraphQLError)) return true;
  if (original?.statusCode !== undefined && original.statusCode >= 400 && original.statusCode < 500) return true;
  return error.path === undefined && !original;
};

/** Postgres or the network between is gone: the request was fine. */
const isUnavailable = ({ code }: { code?: string }): boolean =>
  code !== undefined && /^(ECONN|EPIPE|ENOENT|ETIMEDOUT|57P0|08|53)/.test(code);

/**
 * The field that graphql-js speaks of in words, as a path: `Variable "$input" got invalid value … at "input.to[0].x"`,
 * `Field "a" is not defined by type "B"`, `Cannot query field "a" on type "B"`.
 */
function fieldOf(message: string): FieldProblem {
  const at = /at "([^"]+)"/.exec(message)?.[1];
  const field = /[Ff]ield "([^"]+)"/.exec(message)?.[1];
  const variable = /Variable "\$([^"]+)"/.exec(message)?.[1];
  const base = at?.replaceAll(/\[(\d+)\]/g, '.$1') ?? variable;
  const isUnknownField = field !== undefined && /is not defined by type/.test(message);
  const path = isUnknownField && base !== undefined ? `${base}.${field}` : (base ?? field ?? 'query');
  const problem = message.split('; ').at(-1) ?? message;
  return { path, problem };
}
