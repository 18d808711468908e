import type { NewEvent } from '../event-store.js';
import { ProtobufReader, ProtobufWriter, sizeOfField, sizeOfVarint } from './protobuf.js';
import { readPosition, readUuid, validPosition } from './shared-messages.js';

/**
 * The two messages of BatchAppend, as in EventStoreDB's streams.proto. They carry every event that is written, so they
 * are encoded and decoded here and not by the client's generated classes, which go through base64 and back.
 */

/** As the client does: well below the 4 MiB that a gRPC server takes in one message by default. */
export const MAX_REQUEST_BYTES = 3 * 1024 * 1024;
const EMPTY = 0;
const NOTHING = Buffer.alloc(0);

/** One event as it will be sent. */
export interface Proposal {
  readonly id: string;
  readonly type: string;
  readonly data: string;
  readonly metadata: string;
  readonly dataBytes: number;
  readonly metadataBytes: number;
  /** As a field's value, all of the above. */
  readonly bytes: number;
}

export interface AppendTarget {
  readonly streamId: string;
  readonly expected: number | 'no-stream';
}

export type AppendAnswer =
  /** `position` is missing where the server only knows that it had the events already. */
  | { readonly kind: 'appended'; readonly revision: number; readonly position: bigint | undefined }
  | { readonly kind: 'wrong-revision'; readonly actual: number | undefined }
  /** Nothing was stored, and nothing will be however often it is tried. */
  | { readonly kind: 'refused'; readonly problem: string }
  /** The server does not know either what became of it. */
  | { readonly kind: 'unknown'; readonly problem: string };

/** `content-type: application/json`, one entry of a proposed event's metadata map. */
const JSON_CONTENT = mapEntry('content-type', 'application/json');
const TYPE_KEY = Buffer.from([0x0a, 4, ...Buffer.from('type')]);

export function propose({ id, type, data, metadata }: NewEvent): Proposal {
  const dataText = JSON.stringify(data);
  const metadataText = JSON.stringify(metadata);
  const dataBytes = Buffer.byteLength(dataText);
  const metadataBytes = Buffer.byteLength(metadataText);
  const bytes =
    sizeOfField(sizeOfField(Buffer.byteLength(id))) +
    sizeOfField(typeEntryBytes(Buffer.byteLength(type))) +
    JSON_CONTENT.length +
    sizeOfField(metadataBytes) +
    sizeOfField(dataBytes);
  return { id, type, data: dataText, metadata: metadataText, dataBytes, metadataBytes, bytes };
}

/** The messages that make up one append; the server puts them together by their correlation id. */
export function* appendRequests(
  correlationId: string,
  target: AppendTarget,
  proposals: readonly Proposal[],
): Generator<Buffer> {
  let part: Proposal[] = [];
  let bytes = 0;
  let options: AppendTarget | undefined = target;
  for (const proposal of proposals) {
    if (part.length > 0 && bytes + proposal.bytes > MAX_REQUEST_BYTES) {
      yield encodeRequest(correlationId, options, part, bytes, false);
      options = undefined;
      part = [];
      bytes = 0;
    }
    part.push(proposal);
    bytes += proposal.bytes;
  }
  yield encodeRequest(correlationId, options, part, bytes, true);
}

/** What a request has besides its events and the stream's name, and each event before its fields, at most. */
const REQUEST_OVERHEAD = 128;
const PROPOSAL_OVERHEAD = 8;

function encodeRequest(
  correlationId: string,
  target: AppendTarget | undefined,
  proposals: readonly Proposal[],
  bytes: number,
  isFinal: boolean,
): Buffer {
  const streamBytes = target ? Buffer.byteLength(target.streamId) : 0;
  const writer = new ProtobufWriter(REQUEST_OVERHEAD + streamBytes + bytes + proposals.length * PROPOSAL_OVERHEAD);
  writeUuid(writer, correlationId);
  if (target) writeOptions(writer, target, streamBytes);
  for (const proposal of proposals) writeProposal(writer, proposal);
  if (isFinal) writer.uint(4, 1);
  return writer.end();
}

function writeOptions(writer: ProtobufWriter, { streamId, expected }: AppendTarget, streamBytes: number): void {
  const name = sizeOfField(streamBytes);
  writer.begin(2, sizeOfField(name) + (typeof expected === 'number' ? 1 + sizeOfVarint(expected) : 2));
  writer.begin(1, name);
  writer.text(3, streamId, streamBytes);
  if (typeof expected === 'number') writer.uint(2, expected);
  else writer.begin(3, EMPTY);
  // No deadline: it would be a time by this machine's clock, and the server's may be another.
}

function writeProposal(writer: ProtobufWriter, proposal: Proposal): void {
  const { id, type, data, metadata, dataBytes, metadataBytes, bytes } = proposal;
  writer.begin(3, bytes);
  writeUuid(writer, id);
  const typeBytes = Buffer.byteLength(type);
  writer.begin(2, typeEntryBytes(typeBytes));
  writer.raw(TYPE_KEY);
  writer.text(2, type, typeBytes);
  writer.raw(JSON_CONTENT);
  writer.text(3, metadata, metadataBytes);
  writer.text(4, data, dataBytes);
}

function writeUuid(writer: ProtobufWriter, id: string): void {
  const bytes = Buffer.byteLength(id);
  writer.begin(1, sizeOfField(bytes));
  writer.text(2, id, bytes);
}

function typeEntryBytes(typeBytes: number): number {
  return TYPE_KEY.length + sizeOfField(typeBytes);
}

function mapEntry(key: string, value: string): Buffer {
  const writer = new ProtobufWriter(2 + 2 + key.length + 2 + value.length);
  writer.begin(2, sizeOfField(key.length) + sizeOfField(value.length));
  writer.text(1, key, key.length);
  writer.text(2, value, value.length);
  return writer.end();
}

export interface CorrelatedAnswer {
  readonly correlationId: string;
  readonly answer: AppendAnswer;
}

export function decodeAppendAnswer(bytes: Buffer): CorrelatedAnswer {
  const reader = new ProtobufReader(bytes);
  let correlationId = '';
  let answer: AppendAnswer = { kind: 'unknown', problem: 'the event store gave an answer without a result' };
  for (let field = reader.next(bytes.length); field !== 0; field = reader.next(bytes.length))
    if (field === 1) correlationId = readUuid(reader, reader.message());
    else if (field === 2) answer = readError(reader, reader.message());
    else if (field === 3) answer = readSuccess(reader, reader.message());
    else reader.skip();
  return { correlationId, answer };
}

function readSuccess(reader: ProtobufReader, end: number): AppendAnswer {
  let revision = 0;
  let position: bigint | undefined;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) revision = reader.number();
    else if (field === 3) position = validPosition(readPosition(reader, reader.message()));
    else reader.skip();
  return { kind: 'appended', revision, position };
}

/** google.rpc.Status, whose details are one of the messages in shared.proto. */
function readError(reader: ProtobufReader, end: number): AppendAnswer {
  let message = '';
  let answer: AppendAnswer | undefined;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 2) message = reader.text();
    else if (field === 3) answer = readDetails(reader, reader.message());
    else reader.skip();
  return answer ?? { kind: 'unknown', problem: message || 'the event store failed without saying why' };
}

function readDetails(reader: ProtobufReader, end: number): AppendAnswer | undefined {
  let type = '';
  let value: Buffer = NOTHING;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) type = reader.text();
    else if (field === 2) value = reader.bytes();
    else reader.skip();
  switch (type.slice(type.lastIndexOf('.') + 1)) {
    case 'WrongExpectedVersion':
      return { kind: 'wrong-revision', actual: numberIn(value) };
    case 'MaximumAppendSizeExceeded':
      return { kind: 'refused', problem: `the event store takes at most ${numberIn(value)} bytes in one append` };
    case 'StreamDeleted':
      return { kind: 'refused', problem: 'the stream was deleted' };
    case 'AccessDenied':
      return { kind: 'refused', problem: 'the event store does not let this user write to the stream' };
    case 'BadRequest':
      return { kind: 'refused', problem: `the event store does not understand the append: ${textIn(value)}` };
    case 'Timeout':
      return { kind: 'unknown', problem: 'the event store took too long' };
    default:
      return undefined;
  }
}

/** The first field, when it is a number. */
function numberIn(bytes: Buffer): number | undefined {
  const reader = new ProtobufReader(bytes);
  for (let field = reader.next(bytes.length); field !== 0; field = reader.next(bytes.length)) {
    if (field === 1) return reader.number();
    reader.skip();
  }
  return undefined;
}

function textIn(bytes: Buffer): string {
  const reader = new ProtobufReader(bytes);
  return reader.next(bytes.length) === 1 ? reader.text() : '';
}
