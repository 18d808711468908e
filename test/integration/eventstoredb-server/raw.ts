import shared from '@eventstore/db-client/generated/shared_pb.js';
import streams from '@eventstore/db-client/generated/streams_pb.js';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';

/** What the client leaves no choice in, asked for with its generated messages. */

export const { BatchAppendReq, ReadReq } = streams;
export const { Empty, StreamIdentifier, UUID } = shared;
export type ReadResp = streams.ReadResp;
export type BatchAppendResp = streams.BatchAppendResp;
export type Options = streams.ReadReq.Options;

const STREAMS = '/event_store.client.streams.Streams';

/** Of a stream, or of $all, everything from the start, with ids as text. */
export function readOptions(stream?: string): Options {
  const options = new ReadReq.Options();
  if (stream === undefined) options.setAll(new ReadReq.Options.AllOptions().setStart(new Empty()));
  else {
    const identifier = new StreamIdentifier().setStreamName(Buffer.from(stream).toString('base64'));
    options.setStream(new ReadReq.Options.StreamOptions().setStreamIdentifier(identifier).setStart(new Empty()));
  }
  return options
    .setCount('1000')
    .setNoFilter(new Empty())
    .setUuidOption(new ReadReq.Options.UUIDOption().setString(new Empty()));
}

export class RawClient {
  readonly #client: Client;

  constructor(port: number) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
    });
  }

  read(options: Options | undefined): AsyncIterable<ReadResp> & { cancel(): void } {
    const request = new ReadReq();
    if (options) request.setOptions(options);
    return this.#client.makeServerStreamRequest(
      `${STREAMS}/Read`,
      (message: streams.ReadReq) => Buffer.from(message.serializeBinary()),
      (bytes) => streams.ReadResp.deserializeBinary(bytes),
      request,
    );
  }

  batchAppend() {
    return this.#client.makeBidiStreamRequest(
      `${STREAMS}/BatchAppend`,
      (message: streams.BatchAppendReq) => Buffer.from(message.serializeBinary()),
      (bytes) => streams.BatchAppendResp.deserializeBinary(bytes),
    );
  }

  /** A call with an empty message, to whatever method. */
  async call(path: string, authorization?: string): Promise<Buffer> {
    const metadata = new Metadata();
    if (authorization !== undefined) metadata.set('authorization', authorization);
    return await new Promise((resolve, reject) => {
      const asIs = (bytes: Buffer) => bytes;
      this.#client.makeUnaryRequest(
        path,
        asIs,
        asIs,
        Buffer.alloc(0),
        metadata,
        (error: ServiceError | null, answer) => (error ? reject(error) : resolve(answer as Buffer)),
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}
