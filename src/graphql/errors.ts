import { type ASTNode, BREAK, GraphQLError, type GraphQLFormattedError, Kind, parse, visit } from 'graphql';
import type { Rejection } from '../domain/rejection.js';
import type { FieldProblem } from '../domain/vocabulary.js';
import { UndecodableEvent } from '../event-store/codec.js';
import { BadQuery } from '../projections/cursor.js';

export type ErrorCode = Rejection['code'] | 'UNAUTHENTICATED' | 'UNAVAILABLE' | 'INTERNAL';

/** An expected failure: it reaches the client as it is. */
export class ApiError extends GraphQLError {
  constructor(code: ErrorCode, message: string, fields?: readonly FieldProblem[], retryAfterSeconds?: number) {
    const when = retryAfterSeconds !== undefined && { retryAfterSeconds };
    super(message, { extensions: { code, ...(fields && { fields }), ...when } });
  }
}

export const badInput = (fields: readonly FieldProblem[]): ApiError =>
  new ApiError('BAD_USER_INPUT', fields.map(({ path, problem }) => `${path}: ${problem}`).join('; '), fields);

/** What clients are told of an error that they can do something about; any other as it is. */
export const explained = (error: unknown): unknown =>
  error instanceof BadQuery ? badInput([{ path: error.path, problem: error.problem }]) : error;

/** @throws ApiError for arguments of which nothing can be made */
export function understood<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    throw explained(error);
  }
}

/** The value of an answer, or its rejection as an error. */
export function unwrap<Result extends { readonly ok: true }>(
  result: Result | { readonly ok: false; readonly rejection: Rejection },
): Result {
  if (result.ok) return result;
  const { code, message, fields, retryAfterSeconds } = result.rejection;
  throw new ApiError(code, message, fields, retryAfterSeconds);
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
    return { statusCode: statusOf(errors), response: { data: execution.data ?? null, errors } };
  };
}

/** As a rule 200 (GraphQL over HTTP); what was refused before it was even read says so to every client and proxy. */
function statusOf(errors: readonly GraphQLFormattedError[]): number {
  const isRefused = (code: ErrorCode) => errors.some(({ extensions, path }) => extensions?.code === code && !path);
  if (isRefused('UNAUTHENTICATED')) return 401;
  return isRefused('RATE_LIMITED') ? 429 : 200;
}

/** Trying again changes nothing; a newer program or an operator does. */
const SUSPENDED =
  'this is suspended: it holds an event that this program does not understand, and waits for an operator to resume it';

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
  if (known.extensions?.code !== undefined) return { message: known.message, ...place, extensions: known.extensions };
  if (original instanceof UndecodableEvent) return { message: SUSPENDED, ...place, extensions: { code: 'CONFLICT' } };
  const mistake = clientMistake(error, original);
  if (mistake) return { message: error.message, ...place, extensions: { code: 'BAD_USER_INPUT', fields: [mistake] } };
  if (original && isUnavailable(original))
    return { message: 'temporarily unavailable; try again', ...place, extensions: { code: 'UNAVAILABLE' } };
  const reference = onUnexpected(original ?? error);
  return { message: `something went wrong here (reference ${reference})`, ...place, extensions: { code: 'INTERNAL' } };
}

/** What the client did wrong when no resolver ran: the body, the query or a variable is not as it must be. */
function clientMistake(
  error: GraphQLError,
  original: (Error & { statusCode?: number }) | null | undefined,
): FieldProblem | undefined {
  const status = original?.statusCode ?? 0;
  if (status >= 400 && status < 500) return { path: 'body', problem: error.message };
  if (error.path !== undefined || (original && !(original instanceof GraphQLError || original instanceof TypeError)))
    return undefined;
  const problem = error.message.split('; ').at(-1) ?? error.message;
  return { path: withinInput(pathInVariables(error.message) ?? pathInQuery(error) ?? 'query'), problem };
}

/** Postgres or the network between is gone: the request was fine. pg gives no code when a query is cut off. */
const isUnavailable = ({ code, message }: { code?: string; message: string }): boolean =>
  code === undefined
    ? /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout)/.test(message)
    : /^(LOG_UNAVAILABLE|CONTENT_UNAVAILABLE|ECONN|EPIPE|ENOENT|ETIMEDOUT|57P0|08|53)/.test(code);

/** Inside an input object, problems are named from the object on, as they are when the domain finds them. */
const withinInput = (path: string): string => path.replace(/^[A-Za-z_]\w*\.(?!\d)/, '');

/** graphql-js says `Variable "$input" got invalid value … at "input.to[0].x"; Field "y" is not defined by type …`. */
function pathInVariables(message: string): string | undefined {
  const variable = /^Variable "\$([^"]+)"/.exec(message)?.[1];
  if (variable === undefined) return undefined;
  const at = (/ at "([^"]+)";/.exec(message)?.[1] ?? variable).replaceAll(/\[(\d+)\]/g, '.$1');
  const field = /Field "([^"]+)" (?:is not defined by type|of required type)/.exec(message)?.[1];
  return field === undefined ? at : `${at}.${field}`;
}

/** The arguments and fields that lead to where in the query the problem is. */
function pathInQuery({ nodes }: GraphQLError): string | undefined {
  const [node] = nodes ?? [];
  if (!node?.loc) return undefined;
  const { start, end, source } = node.loc;
  let path: string | undefined;
  visit(parse(source.body), {
    enter(candidate, _key, parent, _keys, ancestors) {
      if (candidate.loc?.start !== start || candidate.loc.end !== end || candidate.kind !== node.kind) return undefined;
      path = [...ancestors, ...(parent ? [parent] : []), candidate].flatMap(stepOf).join('.');
      return BREAK;
    },
  });
  return path || undefined;
}

const stepOf = (node: ASTNode | readonly ASTNode[]): string[] => {
  if (!('kind' in node)) return [];
  return node.kind === Kind.ARGUMENT || node.kind === Kind.OBJECT_FIELD ? [node.name.value] : [];
};
