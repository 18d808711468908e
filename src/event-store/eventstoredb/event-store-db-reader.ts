import { setMaxListeners } from 'node:events';
import {
  type EventReader,
  LogUnavailable,
  type RecordedEvent,
  type StreamRange,
  type SubscribeOptions,
  type SubscriptionBatch,
} from '../event-store.js';
import { Connection } from './connection.js';
import { readConnectionString } from './connection-string.js';
import { isTransient, unavailable } from './errors.js';
import { streamRequest } from './read-messages.js';
import { Reads } from './reads.js';
import { Subscription } from './subscription.js';
import { pause } from './waiting.js';

export interface EventStoreDbOptions {
  /** Default 10,000 ms for the first answer of the event store, after which `connect` fails. */
  readonly connectWithinMs?: number;
  /** Default 20,000 ms during which an operation is tried again while the event store is out of reach. */
  readonly giveUpAfterMs?: number;
  /** Default the connection string's `defaultDeadline`, else 10,000 ms: a connection silent for so long is given up. */
  readonly answerWithinMs?: number;
  /** Default 500 ms of silence after which a subscription asks whether there is anything it was not given. */
  readonly lookAfterMs?: number;
  /** Default 10,000 ms of silence after which a subscription that was not given everything begins anew. */
  readonly stalledAfterMs?: number;
  /** Told why a connection was given up or a subscription began anew, no more than a few times a second. */
  readonly onTrouble?: (error: Error) => void;
}

/** Events read at the beginning: the newest, and enough more to see how far apart they are. */
const FIRST_LOOK = 50;
/** Between two neighbours in the log, in bytes, until some were read. */
const ASSUMED_DISTANCE = 1_000;
/** So many neighbours say how far apart events are here and now; older ones count less and less. */
const ENOUGH_NEIGHBOURS = 10_000;

/**
 * Reads an EventStoreDB, with a connection of its own, for one thread; events of the server itself are left out.
 *
 * Positions are commit positions. Every event has its own where events are written by gRPC; the events of one explicit
 * transaction of the old TCP protocol share one, and must not be in this database.
 */
export class EventStoreDbReader implements EventReader {
  readonly #closing = new AbortController();
  protected readonly connection: Connection;
  protected readonly reads: Reads;
  protected readonly options: Required<EventStoreDbOptions>;
  /** The greatest position that was read or acknowledged here. */
  protected seen = 0n;
  /** Of neighbours that were read together. */
  readonly #distances = { neighbours: 0, bytes: 0 };

  /**
   * Connects and asks for the newest event. While nothing answers it tries again, for as long as the options say; then,
   * or when the event store refuses, it throws, and nothing is left behind.
   *
   * @param url connection string, as in EVENTSTORE_URL; in a cluster the leader is read from, but by subscriptions
   * @throws Error naming EVENTSTORE_URL when it is malformed; LogUnavailable
   */
  static async connect(url: string, options: EventStoreDbOptions = {}): Promise<EventStoreDbReader> {
    return await new EventStoreDbReader(url, options).connected();
  }

  protected constructor(url: string, options: EventStoreDbOptions) {
    const settings = readConnectionString(url);
    // As many may wait for it as there are calls.
    setMaxListeners(0, this.#closing.signal);
    this.options = {
      connectWithinMs: options.connectWithinMs ?? 10_000,
      giveUpAfterMs: options.giveUpAfterMs ?? 20_000,
      answerWithinMs: options.answerWithinMs ?? settings.defaultDeadline ?? 10_000,
      lookAfterMs: options.lookAfterMs ?? 500,
      stalledAfterMs: options.stalledAfterMs ?? 10_000,
      onTrouble: options.onTrouble ?? (() => {}),
    };
    this.connection = new Connection(settings, this.options.answerWithinMs, this.options.onTrouble);
    this.reads = new Reads(this.connection, this.options.answerWithinMs);
  }

  async readStream(streamId: string, range: StreamRange = {}): Promise<RecordedEvent[]> {
    const { limit = Number.MAX_SAFE_INTEGER, direction = 'forwards' } = range;
    if (limit <= 0) return [];
    const isBackwards = direction === 'backwards';
    const request = streamRequest(streamId, {
      from: range.from ?? (isBackwards ? 'end' : 'start'),
      isBackwards,
      limit,
    });
    const events = await this.patiently(() => this.reads.stream(request));
    this.saw(isBackwards ? events[0] : events.at(-1));
    return events;
  }

  async readLast(streamId: string): Promise<RecordedEvent | undefined> {
    const [last] = await this.readStream(streamId, { direction: 'backwards', limit: 1 });
    return last;
  }

  async readAll(after: bigint, limit: number): Promise<RecordedEvent[]> {
    const events = await this.patiently(() => this.reads.after(after, limit));
    this.saw(events.at(-1));
    this.#measure(events);
    return events;
  }

  async readAllBackwards(before: bigint | 'end', limit: number): Promise<RecordedEvent[]> {
    const events = await this.patiently(() => this.reads.before(before, limit));
    this.saw(events[0]);
    this.#measure(events);
    return events;
  }

  async head(): Promise<bigint> {
    return await this.patiently(() => this.#newest());
  }

  /** By the mean distance of neighbours in the log, as far as this reader has met any. */
  eventsBetween(after: bigint, upTo: bigint): number {
    if (upTo <= after) return 0;
    const { neighbours, bytes } = this.#distances;
    const distance = neighbours > 0 ? bytes / neighbours : ASSUMED_DISTANCE;
    return Math.max(1, Math.round(Number(upTo - after) / distance));
  }

  async *subscribe(options: SubscribeOptions): AsyncGenerator<SubscriptionBatch> {
    this.assertOpen();
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    const subscription = new Subscription(
      { ...options, signal },
      {
        ...this.options,
        open: (request) => this.reads.subscription(request),
        head: () => this.#newest(),
        isAnythingAfter: async (position, prefixes) => (await this.reads.after(position, 1, prefixes)).length > 0,
      },
    );
    for await (const batch of subscription.batches()) {
      this.saw(batch.events.at(-1));
      yield batch;
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.connection.close();
  }

  /** Aborts when the store is closed. */
  protected get closed(): AbortSignal {
    return this.#closing.signal;
  }

  protected assertOpen(): void {
    if (this.closed.aborted) throw new LogUnavailable('the event store is closed');
  }

  protected saw(event: RecordedEvent | undefined): void {
    if (event && event.position > this.seen) this.seen = event.position;
  }

  protected async connected(): Promise<this> {
    try {
      const newest = await this.patiently(() => this.reads.before('end', FIRST_LOOK), this.options.connectWithinMs);
      this.saw(newest[0]);
      this.#measure(newest);
      return this;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Tries again, a little later each time, while another try may help and there is time. @throws LogUnavailable */
  protected async patiently<T>(attempt: () => Promise<T>, forMs = this.options.giveUpAfterMs): Promise<T> {
    const giveUpAt = performance.now() + forMs;
    for (let tries = 0; ; tries++) {
      this.assertOpen();
      try {
        return await attempt();
      } catch (error) {
        this.assertOpen();
        if (!isTransient(error) || performance.now() >= giveUpAt) throw unavailable(error);
      }
      await pause(tries, this.closed);
    }
  }

  async #newest(): Promise<bigint> {
    const [newest] = await this.reads.before('end', 1);
    this.saw(newest);
    return newest?.position ?? 0n;
  }

  /** @param events all there are between the first and the last of them */
  #measure(events: readonly RecordedEvent[]): void {
    const [first, last] = [events[0], events.at(-1)];
    if (!first || !last || first === last) return;
    const known = this.#distances;
    known.neighbours += events.length - 1;
    known.bytes += Math.abs(Number(last.position - first.position));
    if (known.neighbours < ENOUGH_NEIGHBOURS) return;
    known.bytes *= ENOUGH_NEIGHBOURS / 2 / known.neighbours;
    known.neighbours = ENOUGH_NEIGHBOURS / 2;
  }
}
