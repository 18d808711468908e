import {
  AppendRefused,
  type AppendResult,
  type EventStore,
  type ExpectedRevision,
  LogUnavailable,
  type NewEvent,
  type RecordedEvent,
  type StreamAppend,
  type StreamRange,
  type SubscribeOptions,
  type SubscriptionBatch,
} from '../../src/event-store/event-store.js';
import { call, type Link } from './network.js';
import type { Random } from './random.js';
import type { Host, Scheduler } from './scheduler.js';
import { EPOCH_MS } from './virtual-globals.js';

/** An append that was carried out, as it is told to whoever watches. */
export interface Appended {
  readonly streamId: string;
  readonly events: readonly RecordedEvent[];
  /** The run of an instance that sent it. */
  readonly host: Host;
}

/** One event log for all instances: the port's promises, kept in memory. */
export class SimulatedLog {
  readonly events: RecordedEvent[] = [];
  readonly #streams = new Map<string, RecordedEvent[]>();
  readonly #waiting = new Set<() => void>();
  readonly #scheduler: Scheduler;
  readonly #onAppended: (appended: Appended) => void;

  constructor(scheduler: Scheduler, onAppended: (appended: Appended) => void) {
    this.#scheduler = scheduler;
    this.#onAppended = onAppended;
  }

  get head(): bigint {
    return this.events.at(-1)?.position ?? 0n;
  }

  stream(streamId: string): readonly RecordedEvent[] {
    return this.#streams.get(streamId) ?? [];
  }

  append({ streamId, expected, events }: StreamAppend, host: Host): AppendResult {
    if (events.length === 0) throw new AppendRefused('there are no events to append');
    const there = this.#streams.get(streamId) ?? [];
    const place = placeOf(expected, there.length, events.length);
    if (place >= 0 && events.every(({ id }, index) => there[place + index]?.id === id)) {
      const last = there[place + events.length - 1] as RecordedEvent;
      return { ok: true, revision: last.revision, position: last.position, idempotent: true };
    }
    if (place !== there.length) {
      const actual = there.length === 0 ? undefined : there.length - 1;
      return { ok: false, reason: 'wrong-revision', actual };
    }
    const recorded = events.map((event, index) => this.#record(event, streamId, there.length + index));
    this.#streams.set(streamId, there);
    there.push(...recorded);
    const last = recorded.at(-1) as RecordedEvent;
    this.#onAppended({ streamId, events: recorded, host });
    for (const look of [...this.#waiting]) look();
    return { ok: true, revision: last.revision, position: last.position, idempotent: false };
  }

  /** Events after a position, in log order. */
  after(position: bigint, limit: number): readonly RecordedEvent[] {
    const start = this.#indexAfter(position);
    return this.events.slice(start, start + limit);
  }

  countAfter(position: bigint): number {
    return this.events.length - this.#indexAfter(position);
  }

  /** Calls `look` after each append until `look` is taken back. */
  watch(look: () => void): () => void {
    this.#waiting.add(look);
    return () => this.#waiting.delete(look);
  }

  /** Positions have gaps, as those of EventStoreDB have. */
  #record(event: NewEvent, streamId: string, revision: number): RecordedEvent {
    const created = new Date(EPOCH_MS + this.#scheduler.nowMs).toISOString();
    const recorded = { ...event, streamId, revision, position: this.head + 7n, created };
    this.events.push(recorded);
    return recorded;
  }

  #indexAfter(position: bigint): number {
    let [low, high] = [0, this.events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.events[middle] as RecordedEvent).position <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const placeOf = (expected: ExpectedRevision, length: number, count: number): number => {
  if (expected === 'no-stream') return 0;
  return expected === 'stream-exists' ? length - count : expected + 1;
};

/** What a subscription can be made to suffer. */
export type SubscriptionFault = 'error' | 'end' | 'repeat';

/** No news for this many events of others: the subscription says how far it has looked. */
const CHECKPOINT_EVERY = 16;
const LARGEST_BATCH = 24;

export interface LogClientParts {
  readonly scheduler: Scheduler;
  readonly log: SimulatedLog;
  readonly link: Link;
  /** Told of each append when it is sent, with what it means to record. */
  readonly onSend: (append: StreamAppend) => void;
  /** Told of each batch when it is handed over. */
  readonly onBatch: (prefixes: readonly string[], position: bigint) => void;
}

/** The log as one run of an instance reaches it. */
export class LogClient implements EventStore {
  readonly #parts: LogClientParts;
  readonly #subscriptions = new Set<Subscription>();
  #stalledUntilMs = 0;

  constructor(parts: LogClientParts) {
    this.#parts = parts;
  }

  append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult> {
    return this.#send({ streamId, expected, events });
  }

  appendMany(appends: readonly StreamAppend[]): Promise<AppendResult[]> {
    return Promise.all(appends.map((append) => this.#send(append)));
  }

  readStream(streamId: string, { from, limit = Number.MAX_SAFE_INTEGER, direction }: StreamRange = {}) {
    return this.#call(() => {
      const events = this.#parts.log.stream(streamId);
      if (direction !== 'backwards') return events.slice(from ?? 0).slice(0, limit);
      return events
        .slice(0, (from ?? events.length) + 1)
        .reverse()
        .slice(0, limit);
    });
  }

  readLast(streamId: string): Promise<RecordedEvent | undefined> {
    return this.#call(() => this.#parts.log.stream(streamId).at(-1));
  }

  readAll(after: bigint, limit: number): Promise<RecordedEvent[]> {
    return this.#call(() => [...this.#parts.log.after(after, limit)]);
  }

  readAllBackwards(before: bigint | 'end', limit: number): Promise<RecordedEvent[]> {
    const { log } = this.#parts;
    return this.#call(() =>
      log.events
        .filter(({ position }) => before === 'end' || position < before)
        .slice(-limit)
        .reverse(),
    );
  }

  head(): Promise<bigint> {
    return this.#call(() => this.#parts.log.head);
  }

  eventsBetween(after: bigint, upTo: bigint): number {
    return upTo > after ? Number(upTo - after) : 0;
  }

  async *subscribe({
    after,
    prefixes = [''],
    batchSize = 500,
    signal,
  }: SubscribeOptions): AsyncGenerator<SubscriptionBatch> {
    const subscription = new Subscription(this.#parts, prefixes, after, Math.min(batchSize, LARGEST_BATCH), () =>
      Math.max(this.#stalledUntilMs - this.#parts.scheduler.nowMs, 0),
    );
    this.#subscriptions.add(subscription);
    try {
      for (let batch = await subscription.next(signal); batch; batch = await subscription.next(signal)) {
        this.#parts.onBatch(prefixes, batch.position);
        yield batch;
      }
    } finally {
      this.#subscriptions.delete(subscription);
    }
  }

  async close(): Promise<void> {}

  /** Every subscription of this client suffers it now. */
  disturb(fault: SubscriptionFault): void {
    for (const subscription of this.#subscriptions) subscription.disturb(fault);
  }

  /** No subscription of this client hears anything until then. */
  stallUntil(ms: number): void {
    this.#stalledUntilMs = ms;
  }

  #send(append: StreamAppend): Promise<AppendResult> {
    const { log, link, onSend } = this.#parts;
    onSend(append);
    return this.#call(() => log.append(append, link.host));
  }

  #call<Result>(serve: () => Result): Promise<Result> {
    return call(this.#parts.scheduler, this.#parts.link, serve);
  }
}

/** One subscription: looks when there is news, and hands over batches one at a time. */
class Subscription {
  readonly #parts: LogClientParts;
  readonly #prefixes: readonly string[];
  readonly #random: Random;
  readonly #batchSize: number;
  readonly #stalledMs: () => number;
  #position: bigint;
  #last: SubscriptionBatch | undefined;
  #isAnnounced = false;
  #fault: SubscriptionFault | undefined;
  #wake: (() => void) | undefined;

  constructor(
    parts: LogClientParts,
    prefixes: readonly string[],
    after: bigint,
    batchSize: number,
    stalledMs: () => number,
  ) {
    this.#parts = parts;
    this.#prefixes = prefixes;
    this.#random = parts.link.random;
    this.#position = after;
    this.#batchSize = batchSize;
    this.#stalledMs = stalledMs;
  }

  disturb(fault: SubscriptionFault): void {
    this.#fault = fault;
    this.#wake?.();
  }

  /** Undefined when the subscription has ended. */
  async next(signal: AbortSignal): Promise<SubscriptionBatch | undefined> {
    for (;;) {
      if (signal.aborted) return undefined;
      await this.#delay(signal);
      if (signal.aborted) return undefined;
      const fault = this.#fault;
      this.#fault = undefined;
      if (fault === 'end') return undefined;
      if (fault === 'error' || this.#parts.link.weather().isDown) throw this.#parts.link.failure('subscription lost');
      if (fault === 'repeat' && this.#last) return this.#last;
      const batch = this.#read();
      if (batch) return batch;
      await this.#news(signal);
    }
  }

  #read(): SubscriptionBatch | undefined {
    const { log } = this.#parts;
    const read = log.after(this.#position, this.#random.int(1, this.#batchSize));
    const position = read.at(-1)?.position ?? this.#position;
    const caughtUp = position >= log.head;
    if (read.length === 0 && this.#isAnnounced) return undefined;
    this.#position = position;
    this.#isAnnounced = caughtUp;
    const events = read.filter(({ streamId }) => this.#isMine(streamId));
    this.#last = { events, position, caughtUp };
    return this.#last;
  }

  #isMine(streamId: string): boolean {
    return this.#prefixes.some((prefix) => streamId.startsWith(prefix));
  }

  /** Until there is something for this subscription, or much for others. */
  #news(signal: AbortSignal): Promise<void> {
    const { log } = this.#parts;
    const isNews = () => {
      const unread = log.after(this.#position, CHECKPOINT_EVERY);
      return unread.length === CHECKPOINT_EVERY || unread.some(({ streamId }) => this.#isMine(streamId));
    };
    return this.#wait(signal, (done) => {
      const end = log.watch(() => {
        if (isNews()) done();
      });
      if (isNews()) done();
      return end;
    });
  }

  /** The way from the server, and however long it is stalled. */
  #delay(signal: AbortSignal): Promise<void> {
    const { scheduler, link } = this.#parts;
    if (!link.onCall()) return new Promise(() => undefined);
    const ms = this.#random.between(0.2, 4) + this.#random.next() * link.weather().slowMs + this.#stalledMs();
    return this.#wait(signal, (done) => {
      const step = scheduler.after(ms, link.host, done);
      return () => {
        step.isCancelled = true;
      };
    });
  }

  /** Resolves in a step of the host, when `begin` says so, the subscription is disturbed, or nobody wants it any more. */
  #wait(signal: AbortSignal, begin: (done: () => void) => (() => void) | undefined): Promise<void> {
    const { scheduler, link } = this.#parts;
    return new Promise((resolve) => {
      let isDone = false;
      let end: (() => void) | undefined;
      const finish = () => {
        if (isDone) return;
        isDone = true;
        end?.();
        this.#wake = undefined;
        signal.removeEventListener('abort', finish);
        if (scheduler.current === link.host) resolve();
        else scheduler.after(0, link.host, resolve);
      };
      this.#wake = finish;
      signal.addEventListener('abort', finish);
      end = begin(finish);
      if (isDone) end?.();
    });
  }
}

/** The failure that the port has for a log that does not answer. */
export const logFailure = (why: string): Error => new LogUnavailable(`the event log cannot be reached: ${why}`);
