import type { ServerUnaryCall, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { append } from './append.js';
import { BatchAppendCall } from './batch-append.js';
import { fail } from './calls.js';
import { defineService } from './definition.js';
import { asRpcError, streamDeleted, wrongExpectedVersion } from './errors.js';
import { read } from './read.js';
import { decodeAppend, decodeBatchAppend, decodeDelete, decodeRead, type StreamTarget } from './requests.js';
import { encodeDeleted } from './responses.js';
import type { Service } from './service.js';
import type { StoreOutcome } from './store.js';

export const streamsDefinition = defineService('event_store.client.streams.Streams', {
  Read: { decode: decodeRead, streams: 'responses' },
  Append: { decode: decodeAppend, streams: 'requests' },
  Delete: { decode: decodeDelete },
  Tombstone: { decode: decodeDelete },
  BatchAppend: { decode: decodeBatchAppend, streams: 'both' },
});

export function streamsOf(service: Service): UntypedServiceImplementation {
  const { store } = service;
  return {
    Read: (call: Parameters<typeof read>[1]) => void read(service, call),
    Append: (call: Parameters<typeof append>[1], reply: sendUnaryData<Buffer>) => append(service, call, reply),
    BatchAppend: (call: ConstructorParameters<typeof BatchAppendCall>[1]) => {
      try {
        new BatchAppendCall(service, call);
      } catch (error) {
        fail(call, error);
      }
    },
    Delete: deletion(service, (stream, expected) => store.softDelete(stream, expected)),
    Tombstone: deletion(service, (stream, expected) => store.tombstone(stream, expected)),
  };
}

const deletion =
  ({ users }: Service, remove: (stream: string, expected: StreamTarget['expected']) => Promise<StoreOutcome>) =>
  async (call: ServerUnaryCall<StreamTarget, Buffer>, reply: sendUnaryData<Buffer>): Promise<void> => {
    const { stream, expected } = call.request;
    try {
      await users.check(users.authenticated(call.metadata), stream, 'delete');
      const outcome = await remove(stream, expected);
      if (outcome.kind === 'stream-deleted') throw streamDeleted(stream);
      if (outcome.kind === 'wrong-expected-version') throw wrongExpectedVersion(stream, outcome);
      reply(null, encodeDeleted(outcome.position));
    } catch (error) {
      reply(asRpcError(error));
    }
  };
