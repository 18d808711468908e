import { BroadcastChannel } from 'node:worker_threads';
import { announcementsOf, EmbeddedLogReader, type LogTables, openTables } from './embedded-log-reader.js';
import { encodeRecord } from './embedded-record.js';
import {
  AppendRefused,
  type AppendResult,
  type EventStore,
  type ExpectedRevision,
  type NewEvent,
  type RecordedEvent,
  type StreamAppend,
} from './event-store.js';
import { RecentEvents } from './recent-events.js';

/** Streams whose newest revision is kept in memory; most are written to again soon after they begin, or never. */
const KEPT_HEADS = 65_536;
/** Well within LMDB's bound on keys (1,978 bytes with the revision). */
const MAX_STREAM_BYTES = 1_024;
/** Attachments travel inside the event that requests the delivery. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024;

/** Appends in one commit at most. */
const MAX_COMMIT = 4_096;
/** How long the other threads of this process may wait to hear of a commit. */
const TELL_OTHERS_MS = 3;

/** Nothing can be stored until this process is started again, with room on its disk. */
export class LogUnavailable extends Error {
  override name = 'LogUnavailable';
  readonly code = 'LOG_UNAVAILABLE';
}

interface PendingAppend {
  readonly streamId: string;
  readonly recorded: readonly RecordedEvent[];
  readonly records: readonly Buffer[];
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The embedded log: an LMDB file, one writing process, any number of readers.
 *
 * Checks and assigns revisions and positions in memory at once. One commit is on its way to the disk at a time, and
 * what is appended meanwhile waits for the next one: the busier the log, the more appends share a commit and an fsync.
 * Only what a commit has made durable is acknowledged and published, in log order.
 */
export class EmbeddedLog extends EmbeddedLogReader implements EventStore {
  readonly #tables: LogTables;
  readonly #out: BroadcastChannel;
  /** Revisions of streams with appends that are not committed yet; all others are in the index. */
  readonly #uncommitted = new Map<string, { revision: number; appends: number; done: Promise<AppendResult> }>();
  /** Committed revisions, the most recently written last. */
  readonly #heads = new Map<string, number>();
  readonly #recent = new RecentEvents();
  readonly #queue: PendingAppend[] = [];
  #committing = false;
  #telling: NodeJS.Timeout | undefined;
  #next: number;
  #durable: number;
  #broken: Error | undefined;

  static override open(path: string): EmbeddedLog {
    return new EmbeddedLog(path, openTables(path, false));
  }

  private constructor(path: string, tables: LogTables) {
    super(path, tables);
    this.#tables = tables;
    this.#out = new BroadcastChannel(announcementsOf(path));
    this.#out.unref();
    this.#durable = super.headPosition();
    this.#next = this.#durable + 1;
  }

  async append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult> {
    if (this.#broken) throw this.#broken;
    if (events.length === 0) throw new AppendRefused('an append needs at least one event');
    if (Buffer.byteLength(streamId) > MAX_STREAM_BYTES || streamId === '')
      throw new AppendRefused(`the name of a stream must have from 1 to ${MAX_STREAM_BYTES} bytes`);
    const actual = this.#revisionOf(streamId, expected);
    if (!matches(expected, actual)) return await this.#repeated(streamId, expected, events, actual);
    return await this.#write(streamId, (actual ?? -1) + 1, events);
  }

  async appendMany(appends: readonly StreamAppend[]): Promise<AppendResult[]> {
    return await Promise.all(appends.map(({ streamId, expected, events }) => this.append(streamId, expected, events)));
  }

  override async close(): Promise<void> {
    this.#broken ??= new LogUnavailable('the event log is closed');
    clearTimeout(this.#telling);
    await Promise.allSettled([...this.#uncommitted.values()].map(({ done }) => done));
    this.#out.close();
    await super.close();
  }

  override async head(): Promise<bigint> {
    if (this.#broken) throw this.#broken;
    return await super.head();
  }

  protected override headPosition(): number {
    return this.#durable;
  }

  protected override eventsAfter(after: number, limit: number): RecordedEvent[] {
    return this.#recent.after(after, limit) ?? super.eventsAfter(after, limit);
  }

  #revisionOf(streamId: string, expected: ExpectedRevision): number | undefined {
    const known = this.#uncommitted.get(streamId)?.revision ?? this.#heads.get(streamId);
    if (known !== undefined) return known;
    // A snapshot from before the last commit would not know what that has written.
    this.refresh();
    // Nearly always right, and found out without a cursor: there is no first event.
    if (expected === 'no-stream' && this.#tables.index.get([streamId, 0]) === undefined) return undefined;
    const range = { start: [streamId, Number.MAX_SAFE_INTEGER], end: [streamId], reverse: true, limit: 1 };
    for (const [, revision] of this.#tables.index.getKeys(range as never)) return revision;
    return undefined;
  }

  async #write(streamId: string, first: number, events: readonly NewEvent[]): Promise<AppendResult> {
    const created = new Date().toISOString();
    const records = events.map((event, offset) => encodeRecord(streamId, first + offset, event, created));
    const tooLarge = records.find((record) => record.length > MAX_EVENT_BYTES);
    if (tooLarge)
      throw new AppendRefused(`an event of ${tooLarge.length} bytes is over the limit of ${MAX_EVENT_BYTES}`);

    const recorded = events.map((event, offset): RecordedEvent => {
      const position = BigInt(this.#next++);
      const { id, type, data, metadata } = event;
      // Not spread: V8 adds to a spread object one property at a time, which costs microseconds.
      return { streamId, revision: first + offset, position, id, type, data, metadata, created };
    });
    const done = new Promise<AppendResult>((resolve, reject) => {
      this.#queue.push({ streamId, recorded, records, resolve, reject });
    });
    this.#claim(streamId, first + events.length - 1, done);
    if (!this.#committing) {
      this.#committing = true;
      // What else this turn appends comes along.
      setImmediate(() => void this.#commitAll());
    }
    return await done;
  }

  /** One commit after the other; each takes all that has come while the one before was on its way to the disk. */
  async #commitAll(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_COMMIT);
      try {
        await this.#commit(batch);
      } catch (error) {
        const failure = this.#fail(error);
        for (const { reject } of [...batch, ...this.#queue.splice(0)]) reject(failure);
        break;
      }
      for (const { streamId, recorded, records } of batch) {
        this.#release(streamId);
        for (const [index, event] of recorded.entries()) this.#recent.add(event, records[index]?.length ?? 0);
        this.#keepHead(streamId, recorded.at(-1)?.revision as number);
      }
      this.#durable = Number(batch.at(-1)?.recorded.at(-1)?.position);
      for (const { recorded, resolve } of batch) {
        const last = recorded.at(-1) as RecordedEvent;
        resolve({ ok: true, revision: last.revision, position: last.position, idempotent: false });
      }
      this.#announce();
    }
    this.#committing = false;
  }

  #commit(batch: readonly PendingAppend[]): Promise<unknown> {
    let committed: Promise<boolean> | undefined;
    for (const { streamId, recorded, records } of batch)
      for (const [index, { position, revision }] of recorded.entries()) {
        this.#tables.log.put(Number(position), records[index] as Buffer);
        committed = this.#tables.index.put([streamId, revision], Number(position));
      }
    return committed as Promise<boolean>;
  }

  /** The expectation is wrong: either these very events are there already, or somebody else's are. */
  async #repeated(
    streamId: string,
    expected: ExpectedRevision,
    events: readonly NewEvent[],
    actual: number | undefined,
  ): Promise<AppendResult> {
    const wrong = { ok: false, reason: 'wrong-revision', actual } as const;
    if (actual === undefined || expected === 'stream-exists') return wrong;
    // What they collide with may not be on disk yet; an answer may only speak of what is.
    await this.#uncommitted.get(streamId)?.done.catch(() => undefined);
    const from = expected === 'no-stream' ? 0 : expected + 1;
    const there = await this.readStream(streamId, { from, limit: events.length });
    const last = there.at(-1);
    const same = there.length === events.length && there.every((event, index) => event.id === events[index]?.id);
    if (!last || !same) return wrong;
    return { ok: true, revision: last.revision, position: last.position, idempotent: true };
  }

  #claim(streamId: string, revision: number, done: Promise<AppendResult>): void {
    const appends = (this.#uncommitted.get(streamId)?.appends ?? 0) + 1;
    this.#uncommitted.set(streamId, { revision, appends, done });
  }

  #release(streamId: string): void {
    const claimed = this.#uncommitted.get(streamId);
    if (!claimed) return;
    if (claimed.appends === 1) this.#uncommitted.delete(streamId);
    else claimed.appends--;
  }

  #keepHead(streamId: string, revision: number): void {
    const before = this.#heads.get(streamId) ?? -1;
    this.#heads.delete(streamId);
    this.#heads.set(streamId, Math.max(before, revision));
    if (this.#heads.size > KEPT_HEADS) this.#heads.delete(this.#heads.keys().next().value as string);
  }

  #announce(): void {
    this.wake();
    // Other threads read in batches anyway; telling them of every commit would cost more than it gives.
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      if (!this.#broken) this.#out.postMessage(null);
    }, TELL_OTHERS_MS).unref();
  }

  /**
   * A failed commit leaves positions assigned that were never written. Nothing after it may be acknowledged, so the
   * log refuses all further appends; a restart finds it as the last good commit left it.
   */
  #fail(cause: unknown): Error {
    this.#broken ??= new LogUnavailable(`the event log could not be written: ${(cause as Error).message}`, { cause });
    return this.#broken;
  }
}

const matches = (expected: ExpectedRevision, actual: number | undefined): boolean => {
  if (expected === 'no-stream') return actual === undefined;
  if (expected === 'stream-exists') return actual !== undefined;
  return actual === expected;
};
