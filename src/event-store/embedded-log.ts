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

/**
 * The embedded log: an LMDB file, one writing process, any number of readers.
 *
 * Checks and assigns revisions and positions in memory at once, so that appends of the same turn share one commit and
 * one fsync; acknowledges and publishes only what that commit has made durable, in log order.
 */
export class EmbeddedLog extends EmbeddedLogReader implements EventStore {
  readonly #tables: LogTables;
  readonly #out: BroadcastChannel;
  /** Revisions of streams with appends that are not committed yet; all others are in the index. */
  readonly #uncommitted = new Map<string, { revision: number; appends: number }>();
  /** Committed revisions, the most recently written last. */
  readonly #heads = new Map<string, number>();
  readonly #recent = new RecentEvents();
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
    this.#broken ??= new Error('the event log is closed');
    await this.#tables.env.flushed;
    this.#out.close();
    await super.close();
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

    const recorded: RecordedEvent[] = [];
    let committed: Promise<boolean> | undefined;
    for (const [offset, event] of events.entries()) {
      const position = this.#next++;
      const revision = first + offset;
      this.#tables.log.put(position, records[offset] as Buffer);
      committed = this.#tables.index.put([streamId, revision], position);
      recorded.push({ ...event, streamId, revision, position: BigInt(position), created });
    }
    const revision = first + events.length - 1;
    this.#claim(streamId, revision);
    try {
      await committed;
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.#release(streamId);
    }
    this.#keepHead(streamId, revision);
    this.#publish(recorded, records);
    const position = recorded.at(-1)?.position as bigint;
    return { ok: true, revision, position, idempotent: false };
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
    if (this.#uncommitted.has(streamId)) await this.#tables.env.committed;
    const from = expected === 'no-stream' ? 0 : expected + 1;
    const there = await this.readStream(streamId, { from, limit: events.length });
    const last = there.at(-1);
    const same = there.length === events.length && there.every((event, index) => event.id === events[index]?.id);
    if (!last || !same) return wrong;
    return { ok: true, revision: last.revision, position: last.position, idempotent: true };
  }

  #claim(streamId: string, revision: number): void {
    const appends = (this.#uncommitted.get(streamId)?.appends ?? 0) + 1;
    this.#uncommitted.set(streamId, { revision, appends });
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

  #publish(events: readonly RecordedEvent[], records: readonly Buffer[]): void {
    for (const [index, event] of events.entries()) this.#recent.add(event, records[index]?.length ?? 0);
    this.#durable = Number(events.at(-1)?.position ?? this.#durable);
    // Appends of one commit are acknowledged in the same turn: readers are told once, after the last of them.
    if (this.#announcing) return;
    this.#announcing = true;
    setImmediate(() => {
      this.#announcing = false;
      if (this.#broken) return;
      this.#out.postMessage(null);
      this.wake();
    });
  }
  #announcing = false;

  /**
   * A failed commit leaves positions assigned that were never written. Nothing after it may be acknowledged, so the
   * log refuses all further appends; a restart finds it as the last good commit left it.
   */
  #fail(cause: unknown): Error {
    this.#broken ??= new Error(`the event log could not be written: ${(cause as Error).message}`, { cause });
    return this.#broken;
  }
}

const matches = (expected: ExpectedRevision, actual: number | undefined): boolean => {
  if (expected === 'no-stream') return actual === undefined;
  if (expected === 'stream-exists') return actual !== undefined;
  return actual === expected;
};
