import { randomUUID } from 'node:crypto';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { RecentlyUsed } from './recently-used.js';
import { fromLog, isTombstone, toLog } from './records.js';
import type { Expected, Proposed } from './requests.js';
import type { AppendOutcome } from './responses.js';
import {
  DELETED_METADATA,
  isMetastream,
  isSoftDeleted,
  METASTREAM_METADATA,
  metastreamOf,
  originalOf,
  parseMetadata,
  type StreamMetadata,
  undeleted,
} from './stream-metadata.js';

export type StoreOutcome = AppendOutcome | { readonly kind: 'stream-deleted' };

/** What of a stream is to be seen. */
export type StreamView =
  | { readonly kind: 'stream-deleted' }
  | { readonly kind: 'stream-not-found' }
  | {
      readonly kind: 'events';
      /** The first revision that $maxCount and $tb leave. */
      readonly first: number;
      readonly last: number;
      /** What was recorded before (ms since 1970) is gone by $maxAge. */
      readonly notBefore: number;
    };

interface StreamState {
  /** -1: it has no event. */
  last: number;
  isTombstoned: boolean;
  /** Data of the newest event of a metastream, and what it says. */
  newest: Buffer;
  says: StreamMetadata;
  /** Settles when all that was appended so far is on disk. */
  pending: Promise<unknown> | undefined;
  /** The ids of its newest events were among the recent ones once. */
  hasIds: boolean;
}

/** A stream and its metastream, or a metastream and the stream it is about. */
interface Pair {
  readonly own: StreamState;
  readonly other: StreamState;
}

interface Place {
  readonly stream: string;
  readonly revision: number;
}

/** Streams of which the newest revision is kept in memory. */
const KEPT_STREAMS = 65_536;
const KEPT_IDS = 65_536;
/** How far back in a stream an append that expects nothing looks for its own events after a restart. */
const REMEMBERED_EVENTS = 64;

/**
 * What EventStoreDB adds to the embedded log: appends that expect nothing, deletion, metadata, and its own rules of what
 * a repeated append is. Metadata and tombstones are events in the log; there is no other truth.
 *
 * Decides and assigns revisions in memory at once, as the log does, so that many appends share a commit.
 */
export class Store {
  readonly log: EmbeddedLog;
  /** The log does not know yet what is pending. */
  readonly #states = new RecentlyUsed<StreamState>(KEPT_STREAMS, ({ pending }) => pending !== undefined);
  readonly #loading = new Map<string, Promise<void>>();
  readonly #recent = new RecentlyUsed<Place>(KEPT_IDS);
  readonly #waiting = new Set<() => void>();
  #head: bigint;

  /** @throws Error, one line: the log cannot be opened */
  static async open(path: string): Promise<Store> {
    const log = EmbeddedLog.open(path);
    return new Store(log, await log.head());
  }

  private constructor(log: EmbeddedLog, head: bigint) {
    this.log = log;
    this.#head = head;
  }

  /** @throws AppendRefused when an event is larger than the log takes */
  async append(stream: string, expected: Expected, events: readonly Proposed[]): Promise<StoreOutcome> {
    const pair = this.#known(stream, expected) ?? (await this.#loaded(stream, expected));
    const { own } = pair;
    const last = own.last;
    const wrong = { kind: 'wrong-expected-version', expected, actual: revisionOf(own) } as const;
    if (own.isTombstoned) return { kind: 'stream-deleted' };
    if (expected === 'stream-exists' && isSoftDeleted(metadataOf(stream, pair))) return { kind: 'stream-deleted' };
    if (expected === 'stream-exists' && !isKnown(stream, pair)) return wrong;

    if (expected === 'any' || expected === 'stream-exists') {
      const places = events.map(({ id }) => this.#recent.get(id));
      const firstNew = places.findIndex((place) => place?.stream !== stream);
      if (firstNew > 0) return wrong;
      if (firstNew < 0 && places.length > 0)
        return await this.#repeated(stream, own, places.at(-1)?.revision as number);
      return await this.#accept(stream, events, pair);
    }

    const at = expected === 'no-stream' ? -1 : Number(expected);
    if (at > last) return wrong;
    if (at === last) return await this.#accept(stream, events, pair);
    const same = await this.#sameFrom(at + 1, stream, own, events);
    if (same === events.length && same > 0) return await this.#repeated(stream, own, at + same);
    if (same > 0 || expected !== 'no-stream' || !isSoftDeleted(metadataOf(stream, pair))) return wrong;
    // A deleted stream may be begun again, after its last event.
    const outcome = await this.append(stream, BigInt(last), events);
    return outcome.kind === 'wrong-expected-version' ? { ...outcome, expected } : outcome;
  }

  /** Hides the stream's events until somebody writes to it again. */
  async softDelete(stream: string, expected: Expected): Promise<StoreOutcome> {
    const pair = this.#known(stream) ?? (await this.#loaded(stream));
    const refused = refusedDeletion(stream, pair, expected);
    if (refused) return refused;
    if (!isKnown(stream, pair)) return { kind: 'wrong-expected-version', expected, actual: undefined };
    return await this.#write(metastreamOf(stream), pair.other, [metadataEvent(Buffer.from(DELETED_METADATA))]);
  }

  /** Ends the stream for ever. */
  async tombstone(stream: string, expected: Expected): Promise<StoreOutcome> {
    const pair = this.#known(stream) ?? (await this.#loaded(stream));
    const refused = refusedDeletion(stream, pair, expected);
    if (refused) return refused;
    const nothing = { data: Buffer.alloc(0), customMetadata: Buffer.alloc(0) };
    const event = { id: randomUUID(), type: '$streamDeleted', contentType: 'application/octet-stream', ...nothing };
    return await this.#write(stream, pair.own, [event], true);
  }

  async view(stream: string): Promise<StreamView> {
    const pair = this.#known(stream) ?? (await this.#loaded(stream));
    const { last, isTombstoned } = pair.own;
    const { maxCount = Infinity, maxAgeMs = Infinity, truncateBefore = 0 } = metadataOf(stream, pair);
    // Only what is on disk may be seen; when it did not get there, the stream is another one.
    const pending = await Promise.allSettled([pair.own.pending, pair.other.pending]);
    if (pending.some(({ status }) => status === 'rejected')) return await this.view(stream);
    if (isTombstoned) return { kind: 'stream-deleted' };
    if (last < 0 || truncateBefore === Infinity) return { kind: 'stream-not-found' };
    const first = Math.max(0, truncateBefore, last - maxCount + 1);
    return { kind: 'events', first, last, notBefore: Date.now() - maxAgeMs };
  }

  async metadata(stream: string): Promise<StreamMetadata> {
    return metadataOf(stream, this.#known(stream) ?? (await this.#loaded(stream)));
  }

  /** Position of the newest event that is acknowledged; 0n when there is none. */
  get head(): bigint {
    return this.#head;
  }

  /** Waits until the head is beyond a position, or the signal aborts. */
  news(head: bigint, signal: AbortSignal): Promise<void> {
    if (this.#head > head || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        this.#waiting.delete(done);
        resolve();
      };
      signal.addEventListener('abort', done, { once: true });
      this.#waiting.add(done);
    });
  }

  close(): Promise<void> {
    return this.log.close();
  }

  /** Writes what was found to be in its place; a stream that was deleted is then a stream again. */
  async #accept(stream: string, events: readonly Proposed[], { own, other }: Pair): Promise<StoreOutcome> {
    const isMeta = isMetastream(stream);
    const [metastream, original] = isMeta ? [own, other] : [other, own];
    const wasDeleted = isSoftDeleted(metastream.says);
    const goesOnFrom = original.last + 1;
    const written = this.#write(stream, own, events);
    if (wasDeleted) {
      const metadata = metadataEvent(undeleted(metastream.newest, goesOnFrom));
      await Promise.all([written, this.#write(isMeta ? stream : metastreamOf(stream), metastream, [metadata])]);
    }
    return await written;
  }

  async #write(
    stream: string,
    own: StreamState,
    events: readonly Proposed[],
    tombstone = false,
  ): Promise<StoreOutcome> {
    const last = events.at(-1);
    if (!last) {
      await own.pending;
      return { kind: 'appended', revision: revisionOf(own), position: undefined };
    }
    const { newest, says, isTombstoned } = own;
    const expected = own.last < 0 ? 'no-stream' : own.last;
    const written = this.log.append(
      stream,
      expected,
      events.map((event) => toLog(event, tombstone)),
    );
    for (const { id } of events) this.#recent.set(id, { stream, revision: ++own.last });
    own.pending = written;
    own.isTombstoned = tombstone;
    if (isMetastream(stream)) this.#hears(own, last.data);
    try {
      const result = await written;
      if (!result.ok) throw new Error(`${stream} is not where it was left: somebody else writes to the log`);
      this.#announce(result.position);
      return { kind: 'appended', revision: BigInt(result.revision), position: result.position };
    } catch (error) {
      // What was decided meanwhile, as if this were there, fails as well, and takes itself back.
      Object.assign(own, { last: own.last - events.length, newest, says, isTombstoned });
      for (const { id } of events) this.#recent.delete(id);
      throw error;
    } finally {
      if (own.pending === written) own.pending = undefined;
    }
  }

  /** How many of the events lie, in this order, in the stream from a revision on. */
  async #sameFrom(from: number, stream: string, own: StreamState, events: readonly Proposed[]): Promise<number> {
    await own.pending;
    const there = await this.log.readStream(stream, { from, limit: events.length });
    const firstOther = events.findIndex(({ id }, index) => there[index]?.id !== id);
    return firstOther < 0 ? events.length : firstOther;
  }

  async #repeated(stream: string, own: StreamState, revision: number): Promise<StoreOutcome> {
    await own.pending;
    const [event] = await this.log.readStream(stream, { from: revision, limit: 1 });
    return { kind: 'appended', revision: BigInt(revision), position: event?.position };
  }

  #known(stream: string, expected?: Expected): Pair | undefined {
    const own = this.#states.get(stream);
    const other = this.#states.get(otherOf(stream));
    const needsIds = expected === 'any' || expected === 'stream-exists';
    return own && other && (own.hasIds || !needsIds) ? { own, other } : undefined;
  }

  async #loaded(stream: string, expected?: Expected): Promise<Pair> {
    for (;;) {
      const pair = this.#known(stream, expected);
      if (pair) return pair;
      const [missing] = [stream, otherOf(stream)].filter((name) => !this.#states.get(name));
      await (missing === undefined ? this.#remember(stream) : this.#load(missing));
    }
  }

  /** Several appends that need the same stream wait for the same look, and go on in the order in which they came. */
  #load(stream: string): Promise<void> {
    const loading =
      this.#loading.get(stream) ??
      this.log.readLast(stream).then((last) => {
        this.#loading.delete(stream);
        const state: StreamState = {
          ...{ last: last?.revision ?? -1, isTombstoned: last !== undefined && isTombstone(last) },
          ...{ newest: Buffer.alloc(0), says: {}, pending: undefined, hasIds: last === undefined },
        };
        if (last && isMetastream(stream)) this.#hears(state, fromLog(last).data);
        this.#states.set(stream, state);
      });
    this.#loading.set(stream, loading);
    return loading;
  }

  async #remember(stream: string): Promise<void> {
    const events = await this.log.readStream(stream, { direction: 'backwards', limit: REMEMBERED_EVENTS });
    for (const { id, revision } of events.reverse()) this.#recent.set(id, { stream, revision });
    const state = this.#states.get(stream);
    if (state) state.hasIds = true;
  }

  #hears(metastream: StreamState, data: Buffer): void {
    // Not a view of all the memory of the message it came in.
    metastream.newest = Buffer.from(data);
    metastream.says = parseMetadata(data);
  }

  #announce(position: bigint): void {
    if (position > this.#head) this.#head = position;
    for (const look of [...this.#waiting]) look();
  }
}

const otherOf = (stream: string): string => (isMetastream(stream) ? originalOf(stream) : metastreamOf(stream));

const metadataOf = (stream: string, { other }: Pair): StreamMetadata =>
  isMetastream(stream) ? METASTREAM_METADATA : other.says;

function refusedDeletion(stream: string, pair: Pair, expected: Expected): StoreOutcome | undefined {
  const { last, isTombstoned } = pair.own;
  const softDeleted = isSoftDeleted(metadataOf(stream, pair));
  if (isTombstoned || (expected === 'stream-exists' && softDeleted)) return { kind: 'stream-deleted' };
  const isExpected =
    expected === 'any' ||
    (expected === 'stream-exists' && isKnown(stream, pair)) ||
    (expected === 'no-stream' && (last < 0 || softDeleted)) ||
    Number(expected) === last;
  return isExpected ? undefined : { kind: 'wrong-expected-version', expected, actual: revisionOf(pair.own) };
}

/** Of a stream that only has metadata, too, it is said that it exists. */
const isKnown = (stream: string, { own, other }: Pair): boolean =>
  own.last >= 0 || (!isMetastream(stream) && other.last >= 0);

const revisionOf = ({ last }: StreamState): bigint | undefined => (last < 0 ? undefined : BigInt(last));

const metadataEvent = (data: Buffer): Proposed => ({
  ...{ id: randomUUID(), type: '$metadata', contentType: 'application/json', data, customMetadata: Buffer.alloc(0) },
});
