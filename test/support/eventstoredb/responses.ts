import type { Expected, Proposed, StreamTarget } from './requests.js';
import { Writer } from './wire.js';

/**
 * What the server answers, as in the protocol's files streams.proto, shared.proto, gossip.proto and serverfeatures.proto,
 * and Google's status.proto.
 */

export interface Recorded extends Proposed {
  readonly stream: string;
  readonly revision: bigint;
  readonly position: bigint;
  readonly createdMs: number;
}

export interface ResolvedEvent {
  readonly event: Recorded | undefined;
  readonly link: Recorded | undefined;
}

const writer = new Writer();

export type AppendOutcome =
  | { readonly kind: 'appended'; readonly revision: bigint | undefined; readonly position: bigint | undefined }
  | WrongExpectation;

export interface WrongExpectation {
  readonly kind: 'wrong-expected-version';
  readonly expected: Expected;
  /** The stream's revision, undefined when it does not exist. */
  readonly actual: bigint | undefined;
}

export function encodeAppended(outcome: AppendOutcome): Buffer {
  if (outcome.kind === 'appended')
    writer.message(1, () => {
      if (outcome.revision === undefined) writer.empty(2);
      else writer.uint(1, outcome.revision);
      if (outcome.position === undefined) writer.empty(4);
      else writer.message(3, () => position(outcome.position as bigint));
    });
  else
    writer.message(2, () => {
      if (outcome.actual === undefined) writer.empty(7);
      else writer.uint(6, outcome.actual);
      if (typeof outcome.expected === 'bigint') writer.uint(8, outcome.expected);
      else writer.empty({ any: 9, 'stream-exists': 10, 'no-stream': 11 }[outcome.expected]);
    });
  return writer.finish();
}

export interface BatchFailure {
  /** google.rpc.Code */
  readonly code: number;
  readonly message: string;
  readonly details:
    | WrongExpectation
    | { readonly kind: 'stream-deleted' }
    | { readonly kind: 'access-denied' }
    | { readonly kind: 'timeout' }
    | { readonly kind: 'unknown' }
    | { readonly kind: 'bad-request' }
    | { readonly kind: 'maximum-append-size-exceeded'; readonly maxAppendSize: number };
}

const detailTypes = {
  'wrong-expected-version': 'WrongExpectedVersion',
  'stream-deleted': 'StreamDeleted',
  'access-denied': 'AccessDenied',
  timeout: 'Timeout',
  unknown: 'Unknown',
  'bad-request': 'BadRequest',
  'maximum-append-size-exceeded': 'MaximumAppendSizeExceeded',
};

export function encodeBatchAppended(
  correlationId: string,
  { stream, expected }: StreamTarget,
  outcome: Extract<AppendOutcome, { kind: 'appended' }> | BatchFailure,
): Buffer {
  // The real server answers in this form however it was asked.
  writer.message(1, () => uuidOf(correlationId, true));
  if ('details' in outcome)
    writer.message(2, () => {
      writer.uint(1, outcome.code);
      writer.string(2, outcome.message);
      writer.message(3, () => {
        writer.string(1, `type.googleapis.com/event_store.client.${detailTypes[outcome.details.kind]}`);
        writer.message(2, () => details(outcome, stream));
      });
    });
  else
    writer.message(3, () => {
      if (outcome.revision === undefined) writer.empty(2);
      else writer.uint(1, outcome.revision);
      if (outcome.position === undefined) writer.empty(4);
      else writer.message(3, () => position(outcome.position as bigint));
    });
  streamIdentifier(4, stream);
  if (typeof expected === 'bigint') writer.uint(5, expected);
  else writer.empty({ 'no-stream': 6, any: 7, 'stream-exists': 8 }[expected]);
  return writer.finish();
}

function details({ details, message }: BatchFailure, stream: string): void {
  if (details.kind === 'wrong-expected-version') {
    if (details.actual === undefined) writer.empty(2);
    else writer.uint(1, details.actual);
    if (typeof details.expected === 'bigint') writer.uint(3, details.expected);
    else writer.empty({ any: 4, 'stream-exists': 5, 'no-stream': 6 }[details.expected]);
  }
  if (details.kind === 'stream-deleted') streamIdentifier(1, stream);
  if (details.kind === 'maximum-append-size-exceeded') writer.uint(1, details.maxAppendSize);
  if (details.kind === 'bad-request') writer.string(1, message);
}

/** DeleteResp and TombstoneResp. */
export function encodeDeleted(at: bigint | undefined): Buffer {
  if (at === undefined) writer.empty(2);
  else writer.message(1, () => position(at));
  return writer.finish();
}

export function encodeReadEvent({ event, link }: ResolvedEvent, structuredIds: boolean): Buffer {
  const likely = sizeOf(event) + sizeOf(link);
  writer.message(
    1,
    () => {
      if (event) writer.message(1, () => recorded(event, structuredIds), sizeOf(event));
      if (link) writer.message(2, () => recorded(link, structuredIds), sizeOf(link));
      writer.uint(3, (link ?? (event as Recorded)).position);
    },
    likely,
  );
  return writer.finish();
}

/** About what an event has in a message besides its data and its metadata. */
const EVENT_OVERHEAD = 200;
const sizeOf = (event: Recorded | undefined): number =>
  event ? event.data.length + event.customMetadata.length + EVENT_OVERHEAD : 0;

/** .NET counts time in steps of 100 ns. */
const TICKS_PER_MS = 10_000n;

function recorded(event: Recorded, structuredIds: boolean): void {
  writer.message(1, () => uuidOf(event.id, structuredIds));
  streamIdentifier(2, event.stream);
  writer.uint(3, event.revision);
  writer.uint(4, event.position);
  writer.uint(5, event.position);
  metadataEntry('type', event.type);
  metadataEntry('created', String(BigInt(event.createdMs) * TICKS_PER_MS));
  metadataEntry('content-type', event.contentType);
  writer.bytes(7, event.customMetadata);
  writer.bytes(8, event.data);
}

function metadataEntry(key: string, value: string): void {
  writer.message(6, () => {
    writer.string(1, key);
    writer.string(2, value);
  });
}

export function encodeConfirmation(subscriptionId: string): Buffer {
  writer.message(2, () => writer.string(1, subscriptionId));
  return writer.finish();
}

export function encodeCheckpoint(at: bigint): Buffer {
  writer.message(3, () => position(at));
  return writer.finish();
}

export function encodeStreamNotFound(stream: string): Buffer {
  writer.message(4, () => streamIdentifier(1, stream));
  return writer.finish();
}

export function encodeFirstStreamPosition(revision: bigint): Buffer {
  writer.uint(5, revision);
  return writer.finish();
}

export function encodeLastStreamPosition(revision: bigint): Buffer {
  writer.uint(6, revision);
  return writer.finish();
}

export function encodeLastAllStreamPosition(at: bigint): Buffer {
  writer.message(7, () => position(at));
  return writer.finish();
}

export function encodeCaughtUp(): Buffer {
  writer.empty(8);
  return writer.finish();
}

export function encodeFellBehind(): Buffer {
  writer.empty(9);
  return writer.finish();
}

export interface Member {
  readonly instanceId: string;
  readonly host: string;
  readonly port: number;
}

const LEADER = 8;

/** A cluster of one, which leads. */
export function encodeClusterInfo({ instanceId, host, port }: Member): Buffer {
  writer.message(1, () => {
    writer.message(1, () => uuidOf(instanceId, false));
    writer.uint(2, BigInt(Date.now()) * TICKS_PER_MS + UNIX_EPOCH_TICKS);
    writer.uint(3, LEADER);
    writer.uint(4, 1);
    writer.message(5, () => {
      writer.string(1, host);
      writer.uint(2, port);
    });
  });
  return writer.finish();
}

/** 1970-01-01 in .NET's count, which starts at the year 1. */
const UNIX_EPOCH_TICKS = 621_355_968_000_000_000n;

export interface SupportedMethod {
  readonly method: string;
  readonly service: string;
  readonly features: readonly string[];
}

export function encodeSupportedMethods(methods: readonly SupportedMethod[], version: string): Buffer {
  for (const { method, service, features } of methods)
    writer.message(1, () => {
      writer.string(1, method);
      writer.string(2, service);
      for (const feature of features) writer.string(3, feature);
    });
  writer.string(2, version);
  return writer.finish();
}

function streamIdentifier(field: number, stream: string): void {
  writer.message(field, () => writer.string(3, stream));
}

function position(at: bigint): void {
  writer.uint(1, at);
  writer.uint(2, at);
}

function uuidOf(id: string, structured: boolean): void {
  if (!structured) writer.string(2, id);
  else
    writer.message(1, () => {
      const hex = id.replaceAll('-', '');
      writer.uint(1, BigInt(`0x${hex.slice(0, 16)}`));
      writer.uint(2, BigInt(`0x${hex.slice(16)}`));
    });
}
