import type { ServerReadableStream, sendUnaryData } from '@grpc/grpc-js';
import {
  asRpcError,
  invalidArgument,
  maximumAppendSizeExceeded,
  requiredMetadataMissing,
  streamDeleted,
} from './errors.js';
import { type AppendRequest, type Proposed, type StreamTarget } from './requests.js';
import { encodeAppended } from './responses.js';
import type { Service } from './service.js';

/** What an event counts towards the limit of an append: its type in UTF-16, as the real server counts. */
export const sizeOf = ({ type, data, customMetadata }: Proposed): number =>
  type.length * 2 + data.length + customMetadata.length;

/** @throws RpcError when an event is not whole */
export function checkProposed({ id, type, contentType }: Proposed): void {
  if (!UUID.test(id)) throw invalidArgument(`an event's id must be a UUID, not '${id}'`);
  if (type === '') throw requiredMetadataMissing(['type']);
  if (contentType === '') throw requiredMetadataMissing(['content-type']);
}

const UUID = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/;

/** Streams.Append: one append a call, first where to, then its events one by one. */
export function append(
  { store, users, maxAppendSize }: Service,
  call: ServerReadableStream<AppendRequest, Buffer>,
  reply: sendUnaryData<Buffer>,
): void {
  const events: Proposed[] = [];
  let target: StreamTarget | undefined;
  let size = 0;
  let isAnswered = false;
  const answer = (error: unknown, response: Buffer | null = null) => {
    if (isAnswered) return;
    isAnswered = true;
    reply(error === null ? null : asRpcError(error), response);
  };

  call.on('data', (request: AppendRequest) => {
    if (isAnswered) return;
    if ('options' in request) {
      target = request.options;
      return;
    }
    events.push(request.proposed);
    size += sizeOf(request.proposed);
    if (size > maxAppendSize) answer(maximumAppendSizeExceeded(maxAppendSize));
  });
  call.on('end', async () => {
    if (isAnswered || call.cancelled) return;
    try {
      if (!target) throw invalidArgument('an append begins with its options');
      for (const event of events) checkProposed(event);
      await users.check(users.authenticated(call.metadata), target.stream, 'write');
      const outcome = await store.append(target.stream, target.expected, events);
      if (outcome.kind === 'stream-deleted') throw streamDeleted(target.stream);
      answer(null, encodeAppended(outcome));
    } catch (error) {
      answer(error);
    }
  });
}
