import shared from '@eventstore/db-client/generated/shared_pb.js';
import streams from '@eventstore/db-client/generated/streams_pb.js';
import type { RecordedEvent } from '../event-store.js';
import { ProtobufReader } from './protobuf.js';
import { readPosition, readUuid, validPosition } from './shared-messages.js';

const { Empty, StreamIdentifier } = shared;
const { ReadReq } = streams;

/** Events that a filtered read looks at in one go, and after which a subscription hears at the latest how far it is. */
const SEARCH_WINDOW = 256;
/** Streams of the server itself begin with it: metadata, statistics, links of projections. */
export const SYSTEM = '$';

export interface ReadRange {
  readonly from: bigint | number | 'start' | 'end';
  readonly isBackwards?: boolean;
  readonly limit: number;
}

export type ReadMessage =
  | { readonly kind: 'event'; readonly event: RecordedEvent; readonly bytes: number }
  /** How far the server has looked; also what is left of an event of its own. */
  | { readonly kind: 'checkpoint'; readonly position: bigint }
  | { readonly kind: 'caught-up' | 'fell-behind' | 'other' };

/** A read of one stream, from a revision on, inclusive. */
export function streamRequest(streamId: string, range: ReadRange): Buffer {
  const stream = new ReadReq.Options.StreamOptions().setStreamIdentifier(
    new StreamIdentifier().setStreamName(Buffer.from(streamId)),
  );
  if (range.from === 'start') stream.setStart(new Empty());
  else if (range.from === 'end') stream.setEnd(new Empty());
  else stream.setRevision(String(range.from));
  const options = new ReadReq.Options().setStream(stream).setNoFilter(new Empty()).setCount(String(range.limit));
  return encode(options, range.isBackwards);
}

/**
 * A read over all streams but the server's own, of those that begin with one of `prefixes`. Forwards from a position
 * inclusive, backwards exclusive.
 */
export function allRequest(range: ReadRange, prefixes?: readonly string[]): Buffer {
  return encode(allOptions(range.from, prefixes).setCount(String(range.limit)), range.isBackwards);
}

/** A subscription to what `allRequest` reads, after a position, exclusive. */
export function subscribeRequest(after: bigint, prefixes?: readonly string[]): Buffer {
  const subscription = new ReadReq.Options.SubscriptionOptions();
  return encode(allOptions(after === 0n ? 'start' : after, prefixes).setSubscription(subscription));
}

function allOptions(from: ReadRange['from'], prefixes: readonly string[] | undefined) {
  const all = new ReadReq.Options.AllOptions();
  if (from === 'start') all.setStart(new Empty());
  else if (from === 'end') all.setEnd(new Empty());
  else {
    const text = String(from);
    all.setPosition(new ReadReq.Options.Position().setCommitPosition(text).setPreparePosition(text));
  }
  const expression = new ReadReq.Options.FilterOptions.Expression();
  if (prefixes && prefixes.length > 0) expression.setPrefixList([...prefixes]);
  else expression.setRegex('^[^$]');
  const filter = new ReadReq.Options.FilterOptions()
    .setStreamIdentifier(expression)
    .setMax(SEARCH_WINDOW)
    .setCheckpointintervalmultiplier(1);
  return new ReadReq.Options().setAll(all).setFilter(filter);
}

function encode(options: streams.ReadReq.Options, isBackwards = false): Buffer {
  options.setReadDirection(isBackwards ? 1 : 0).setResolveLinks(false);
  options.setUuidOption(new ReadReq.Options.UUIDOption().setString(new Empty()));
  return Buffer.from(new ReadReq().setOptions(options).serializeBinary());
}

/** ReadResp of streams.proto, by hand as what carries the events that are written. */
export function decodeReadMessage(bytes: Buffer): ReadMessage {
  const reader = new ProtobufReader(bytes);
  let message: ReadMessage = { kind: 'other' };
  for (let field = reader.next(bytes.length); field !== 0; field = reader.next(bytes.length))
    if (field === 1) message = readEvent(reader, reader.message(), bytes.length);
    else if (field === 3) message = { kind: 'checkpoint', position: readPosition(reader, reader.message()) };
    else {
      reader.skip();
      if (field === 8) message = { kind: 'caught-up' };
      if (field === 9) message = { kind: 'fell-behind' };
    }
  return message;
}

function readEvent(reader: ProtobufReader, end: number, bytes: number): ReadMessage {
  let message: ReadMessage = { kind: 'other' };
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) message = readRecorded(reader, reader.message(), bytes);
    else reader.skip();
  return message;
}

function readRecorded(reader: ProtobufReader, end: number, bytes: number): ReadMessage {
  let id = '';
  let streamId = '';
  let revision = 0;
  let position = 0n;
  let type = '';
  let created = '';
  let metadata: Buffer | undefined;
  let data: Buffer | undefined;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) id = readUuid(reader, reader.message());
    else if (field === 2) streamId = readStreamName(reader, reader.message());
    else if (field === 3) revision = reader.number();
    else if (field === 5) position = reader.bigint();
    else if (field === 6) {
      const entryEnd = reader.message();
      let key = '';
      let value = '';
      for (let part = reader.next(entryEnd); part !== 0; part = reader.next(entryEnd))
        if (part === 1) key = reader.text();
        else value = reader.text();
      if (key === 'type') type = value;
      else if (key === 'created') created = value;
    } else if (field === 7) metadata = reader.bytes();
    else if (field === 8) data = reader.bytes();
    else reader.skip();

  if (validPosition(position) === undefined)
    throw new Error('the event store does not say where its events are: it is too old');
  if (streamId.startsWith(SYSTEM) || type.startsWith(SYSTEM)) return { kind: 'checkpoint', position };
  const event: RecordedEvent = {
    streamId,
    revision,
    position,
    id,
    type,
    data: parse(data) as RecordedEvent['data'],
    metadata: parse(metadata) as RecordedEvent['metadata'],
    created: timeOf(created),
  };
  return { kind: 'event', event, bytes };
}

function readStreamName(reader: ProtobufReader, end: number): string {
  let name = '';
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 3) name = reader.text();
    else reader.skip();
  return name;
}

/** Others may write to the same store what is not JSON; it goes through as text, so that it stops nobody's reading. */
function parse(bytes: Buffer | undefined): object {
  if (!bytes || bytes.length === 0) return {};
  const text = bytes.toString('utf8');
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Not JSON.
  }
  return { text };
}

/** .NET's steps of 100 ns since 1970, the last four digits of which a JavaScript number could not hold exactly. */
const timeOf = (ticks: string): string => new Date(Number(ticks.slice(0, -4))).toISOString();
