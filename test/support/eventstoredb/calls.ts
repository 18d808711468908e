import type { Writable } from 'node:stream';
import type { ServerErrorResponse } from '@grpc/grpc-js';
import { asRpcError } from './errors.js';

/** What all calls are, whatever they take and answer. */
interface Call {
  readonly cancelled: boolean;
  on(event: 'cancelled' | 'close', listener: () => void): unknown;
  emit(event: 'error', error: ServerErrorResponse): boolean;
}

/** Aborts when the caller is gone, has cancelled, or its deadline is over, and when the server is told to stop. */
export function signalOf(call: Pick<Call, 'on' | 'cancelled'>, stopping: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (call.cancelled || stopping.aborted) abort();
  call.on('cancelled', abort);
  call.on('close', abort);
  stopping.addEventListener('abort', abort, { signal: controller.signal });
  return controller.signal;
}

/**
 * Sends a message; undefined when the next may follow at once. While the caller does not read, what it is to read costs
 * no more than a few messages.
 */
export function send(call: Writable, message: Buffer, signal: AbortSignal): Promise<void> | undefined {
  if (signal.aborted || call.write(message)) return undefined;
  return new Promise<void>((resolve) => {
    const done = () => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.on('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

export function fail(call: Pick<Call, 'emit'>, error: unknown): void {
  call.emit('error', asRpcError(error) as ServerErrorResponse);
}
