import { type Metadata, status } from '@grpc/grpc-js';
import { LogUnavailable } from '../event-store.js';

/** Where a node is. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Answers that another try, another node or another connection may not give. */
const TRANSIENT = new Set([
  status.CANCELLED,
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

/** There is no answer, and none will come; another try may have one. */
export class NoAnswer extends Error {
  override name = 'NoAnswer';
}

/** Nothing was heard for too long. */
export class Silence extends NoAnswer {
  override name = 'Silence';
}

export function isTransient(error: unknown): boolean {
  if (error instanceof NoAnswer) return true;
  const { code } = error as { code?: unknown };
  return (typeof code === 'number' && TRANSIENT.has(code)) || exceptionIn(error) === 'not-leader';
}

/** Where the leader is, when that is what a node answered instead of doing what it was asked. */
export function leaderIn(error: unknown): Endpoint | undefined {
  if (exceptionIn(error) !== 'not-leader') return undefined;
  const address = headerIn(error, 'leader-endpoint-host');
  const port = Number(headerIn(error, 'leader-endpoint-port'));
  return address && port > 0 ? { address, port } : undefined;
}

export const isStreamDeleted = (error: unknown): boolean => exceptionIn(error) === 'stream-deleted';

/** What a caller is told of a call that failed for good; a mistake in the program stays what it is. */
export function unavailable(error: unknown): Error {
  const { code, message } = error as { code?: number; message: string };
  if (typeof code !== 'number' && !(error instanceof NoAnswer)) return error as Error;
  const problem = PROBLEMS.get(code) ?? 'the event store cannot be reached';
  return new LogUnavailable(`${problem} (${message})`, { cause: error });
}

const PROBLEMS = new Map<number | undefined, string>([
  [status.UNAUTHENTICATED, 'the event store refuses the user and password of EVENTSTORE_URL'],
  [status.PERMISSION_DENIED, 'the event store does not let the user of EVENTSTORE_URL do what Waybill needs'],
  [status.UNIMPLEMENTED, 'the event store does not know what is asked of it: EventStoreDB 22.6 or newer is needed'],
]);

/** The server names its errors in the trailers of the call. */
const exceptionIn = (error: unknown): string | undefined => headerIn(error, 'exception');

function headerIn(error: unknown, name: string): string | undefined {
  const { metadata } = error as { metadata?: Metadata };
  return metadata?.get(name)[0]?.toString();
}
