import type { FieldProblem } from './vocabulary.js';

/** An expected "no", as data; the codes are those of the public API. A broken invariant throws instead. */
export interface Rejection {
  readonly code: 'NOT_FOUND' | 'BAD_USER_INPUT' | 'CONFLICT' | 'IDEMPOTENCY_CONFLICT' | 'FORBIDDEN' | 'RATE_LIMITED';
  readonly message: string;
  readonly fields?: readonly FieldProblem[];
  /** With RATE_LIMITED: when to ask again. */
  readonly retryAfterSeconds?: number;
}

/** What a decider answers: the events to record (none when there is nothing to do), or why not. */
export type Decision<Event> =
  | { readonly ok: true; readonly events: readonly Event[] }
  | { readonly ok: false; readonly rejection: Rejection };

export const record = <Event>(...events: Event[]): Decision<Event> => ({ ok: true, events });

export const reject = (
  code: Rejection['code'],
  message: string,
  fields?: readonly FieldProblem[],
): { readonly ok: false; readonly rejection: Rejection } => ({
  ok: false,
  rejection: { code, message, ...(fields && { fields }) },
});

export const badInput = (fields: readonly FieldProblem[]) =>
  reject('BAD_USER_INPUT', fields.map(({ path, problem }) => `${path}: ${problem}`).join('; '), fields);
