import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { AppendRefused } from '../../../src/event-store/event-store.js';
import type { WrongExpectation } from './responses.js';
import { WireError } from './wire.js';

/** An answer other than success, as clients expect it: a status and, in the trailers, what exactly it is. */
export class RpcError extends Error implements Pick<ServiceError, 'code' | 'details' | 'metadata'> {
  override name = 'RpcError';
  readonly code: status;
  readonly details: string;
  readonly metadata = new Metadata();

  constructor(code: status, details: string, trailers: Readonly<Record<string, string>> = {}) {
    super(details);
    this.code = code;
    this.details = details;
    for (const [key, value] of Object.entries(trailers)) this.metadata.set(key, printable(value));
  }
}

/** Trailers are ASCII (RFC 9113, 8.2.1); a name that is not has its other characters percent-encoded. */
const printable = (text: string): string => text.replace(/[^ -~]+/g, encodeURIComponent);

export const streamDeleted = (stream: string): RpcError =>
  new RpcError(status.FAILED_PRECONDITION, `Event stream '${stream}' is deleted.`, {
    exception: 'stream-deleted',
    'stream-name': stream,
  });

/** Of a deletion; an append answers it as data. */
export function wrongExpectedVersion(stream: string, { expected, actual }: WrongExpectation): RpcError {
  const numbers = { any: -2n, 'no-stream': -1n, 'stream-exists': -4n };
  const expectedVersion = typeof expected === 'bigint' ? expected : numbers[expected];
  const versions = `Expected version: ${expectedVersion}, Actual version: ${actual ?? -1n}`;
  const details = `Delete failed due to WrongExpectedVersion. Stream: ${stream}, ${versions}`;
  return new RpcError(status.FAILED_PRECONDITION, details, {
    exception: 'wrong-expected-version',
    'stream-name': stream,
    'expected-version': String(expectedVersion),
    'actual-version': String(actual ?? -1n),
  });
}

export const maximumAppendSizeExceeded = (maxAppendSize: number): RpcError =>
  new RpcError(status.INVALID_ARGUMENT, `Maximum Append Size of ${maxAppendSize} Exceeded.`, {
    exception: 'maximum-append-size-exceeded',
    'maximum-append-size': String(maxAppendSize),
  });

export const requiredMetadataMissing = (properties: readonly string[]): RpcError =>
  new RpcError(status.INVALID_ARGUMENT, `Required Metadata Properties '${properties.join(',')}' are missing`, {
    exception: 'missing-required-metadata-property',
    'required-metadata-properties': properties.join(','),
  });

export const accessDenied = (): RpcError =>
  new RpcError(status.PERMISSION_DENIED, 'Access Denied', { exception: 'access-denied' });

export const invalidArgument = (details: string): RpcError => new RpcError(status.INVALID_ARGUMENT, details);

export const unavailable = (): RpcError => new RpcError(status.UNAVAILABLE, 'Server Is Shutting Down');

export function asRpcError(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  if (error instanceof WireError || error instanceof AppendRefused) return invalidArgument(error.message);
  return new RpcError(status.UNKNOWN, (error as Error).message);
}
