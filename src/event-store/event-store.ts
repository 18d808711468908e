import type { JsonObject } from '../domain/vocabulary.js';

/**
 * The event store port: the product's only truth, behind one small interface that the embedded log and EventStoreDB
 * both satisfy. What it acknowledges is on disk.
 */
export interface EventStore extends EventReader {
  /**
   * Appends events to one stream, all or none, when the stream is where the caller believes it to be.
   * Appending the same event ids at the same place again is acknowledged as `idempotent`, with the first result, whatever
   * came after them and however long ago it was. For `stream-exists`, which names no place, that place is the stream's
   * end: events are a repetition when exactly they are its newest.
   * A wrong expectation is an answer, not an error; what throws leaves it unknown whether the events were stored.
   *
   * @throws AppendRefused when the store could never take it: no events, too many, too large, no name for a stream (1 to
   *   1,024 bytes of UTF-8 without control characters); nothing was stored
   * @throws LogUnavailable when it can store nothing now
   */
  append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult>;
  /**
   * Many independent appends in as few durable commits as possible; the answers are in order of the appends.
   * Each stream is all or none by itself; nothing may rely on two streams being atomic together.
   */
  appendMany(appends: readonly StreamAppend[]): Promise<AppendResult[]>;
  close(): Promise<void>;
}

export interface EventReader {
  /** A stream's events, from its beginning unless told otherwise; empty when there is no such stream. */
  readStream(streamId: string, options?: StreamRange): Promise<RecordedEvent[]>;
  /** The stream's newest event, if it exists. */
  readLast(streamId: string): Promise<RecordedEvent | undefined>;
  /**
   * Events after `after` (exclusive; 0n is before the first), in log order: at most `limit`, fewer when they are large,
   * none only when there are none.
   */
  readAll(after: bigint, limit: number): Promise<RecordedEvent[]>;
  /** The same towards the log's beginning: events before `before` (exclusive), the newest first. */
  readAllBackwards(before: bigint | 'end', limit: number): Promise<RecordedEvent[]>;
  /** Position of the newest event; 0n when the log is empty. */
  head(): Promise<bigint>;
  /**
   * How many events there are after `after` (exclusive) up to `upTo` (inclusive), as far as that can be told without
   * reading them: exact in the embedded log, whose positions count events; elsewhere an estimate, at least 1 when `upTo`
   * is beyond `after`, and 0 when it is not.
   */
  eventsBetween(after: bigint, upTo: bigint): number;
  /**
   * History, then what comes, as batches, forever until `signal` aborts. A slow consumer costs one batch of memory
   * and delays nobody. Every batch carries the position up to which the subscription has looked (its checkpoint),
   * even when the filter left nothing.
   */
  subscribe(options: SubscribeOptions): AsyncIterable<SubscriptionBatch>;
}

export interface StreamRange {
  /** The first revision to read, inclusive; default the stream's first, or backwards its newest. */
  readonly from?: number;
  /** Most events to read; default all. */
  readonly limit?: number;
  readonly direction?: 'forwards' | 'backwards';
}

/** The revision the stream must be at (that of its newest event), or that it must not, or must, exist. */
export type ExpectedRevision = number | 'no-stream' | 'stream-exists';

export interface StreamAppend {
  readonly streamId: string;
  readonly expected: ExpectedRevision;
  readonly events: readonly NewEvent[];
}

export interface NewEvent {
  /** UUID; the event's identity for idempotent appends. */
  readonly id: string;
  readonly type: string;
  readonly data: JsonObject;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface RecordedEvent extends NewEvent {
  readonly streamId: string;
  /** 0 for the stream's first event. */
  readonly revision: number;
  /** Strictly increasing over the whole log. */
  readonly position: bigint;
  /** When the store recorded it (RFC 3339, UTC). */
  readonly created: string;
}

export type EventText = [
  streamId: string,
  revision: number,
  id: string,
  type: string,
  data: unknown,
  metadata: unknown,
  created: string,
];

/**
 * The event as one JSON text, `[stream, revision, id, type, data, metadata, created]` as `JSON.stringify` writes it. A
 * store that keeps just that gives it back as it is; to write it again would cost more than all else the audit trail does.
 */
export const textOf = (event: RecordedEvent): string => {
  if (event instanceof EventOfText) return EventOfText.textOf(event);
  const { streamId, revision, id, type, data, metadata, created } = event;
  return JSON.stringify([streamId, revision, id, type, data, metadata, created] satisfies EventText);
};

/** An event that was read as its text. */
export class EventOfText implements RecordedEvent {
  readonly streamId: string;
  readonly revision: number;
  readonly position: bigint;
  readonly id: string;
  readonly type: string;
  readonly data: RecordedEvent['data'];
  readonly metadata: RecordedEvent['metadata'];
  readonly created: string;
  readonly #text: string;

  /** @throws SyntaxError */
  constructor(position: bigint, text: string) {
    const [streamId, revision, id, type, data, metadata, created] = JSON.parse(text) as EventText;
    this.streamId = streamId;
    this.revision = revision;
    this.position = position;
    this.id = id;
    this.type = type;
    this.data = data as RecordedEvent['data'];
    this.metadata = metadata as RecordedEvent['metadata'];
    this.created = created;
    this.#text = text;
  }

  static textOf(event: EventOfText): string {
    return event.#text;
  }
}

export type AppendResult =
  | { readonly ok: true; readonly revision: number; readonly position: bigint; readonly idempotent: boolean }
  /** `actual` is the stream's revision, undefined when it does not exist. */
  | { readonly ok: false; readonly reason: 'wrong-revision'; readonly actual: number | undefined };

export interface SubscribeOptions {
  /** Exclusive: the last position already handled; 0n for everything. */
  readonly after: bigint;
  /** Only streams whose name starts with one of these; all when absent. */
  readonly prefixes?: readonly string[];
  /** Most events in one batch, default 500. */
  readonly batchSize?: number;
  readonly signal: AbortSignal;
}

export interface SubscriptionBatch {
  readonly events: readonly RecordedEvent[];
  readonly position: bigint;
  /** True when the subscription has reached what was the head when it read; may become false again. */
  readonly caughtUp: boolean;
}

/** Where an event store is, in words that another thread understands: the embedded log's folder, or a connection string. */
export type EventStoreLocation = { readonly path: string } | { readonly url: string };

/** The store refuses an append for what it is (too large, malformed), not for where the stream stands. */
export class AppendRefused extends Error {
  override name = 'AppendRefused';
}

/** Nothing can be read or stored for now, or the store is closed; nothing is wrong with what was asked. */
export class LogUnavailable extends Error {
  override name = 'LogUnavailable';
  readonly code = 'LOG_UNAVAILABLE';
}

/** What lies outside the log cannot be stored or read now; an append that needs it stored nothing. */
export class ContentUnavailable extends Error {
  override name = 'ContentUnavailable';
  readonly code = 'CONTENT_UNAVAILABLE';
}

/** What an event names is not there any more, or not what it was; the message says which. */
export class ContentLost extends Error {
  override name = 'ContentLost';
  readonly code = 'CONTENT_LOST';
}
