import { setImmediate as nextTurn } from 'node:timers/promises';
import { getSystemErrorMap } from 'node:util';
import { BroadcastChannel } from 'node:worker_threads';
import { instantNow } from '../domain/instant.js';
import { checkAppend, checkSizes } from './append-limits.js';
import { announcementsOf, EmbeddedLogReader, type LogTables, openTables } from './embedded-log-reader.js';
import { encodeRecord } from './embedded-record.js';
import { LogRoom } from './embedded-room.js';
import {
  type AppendResult,
  type EventStore,
  type ExpectedRevision,
  LogUnavailable,
  type NewEvent,
  type RecordedEvent,
  type StreamAppend,
} from './event-store.js';
import { RecentEvents } from './recent-events.js';

/** Streams whose newest revision is kept in memory; most are written to again soon after they begin, or never. */
const KEPT_HEADS = 32_768;
/** A commit takes no more appends beyond so many events or bytes: while it is written, the next one is being made. */
const ENOUGH_EVENTS = 1_024;
const ENOUGH_BYTES = 8 * 1024 * 1024;
/** LMDB fills pages whole, a quarter more than otherwise, when told that nothing will come between. */
const AT_THE_END = { append: true } as never; // its types have forgotten the options that it documents
const failsWithBatch = () => undefined;
/** How long the other threads of this process may wait to hear of a commit. */
const TELL_OTHERS_MS = 3;

/** How long a log that could not be written waits before it tries again. */
const TRY_AGAIN_MS = 1_000;

interface PendingAppend {
  readonly streamId: string;
  readonly recorded: readonly RecordedEvent[];
  readonly records: readonly Buffer[];
  readonly bytes: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: Error) => void;
}

/** LMDB gives the number of a system's error as its code, Node as a negative `errno`. */
type WriteError = Error & { readonly code?: number | string; readonly errno?: number };

/** A stream with appends under way. */
interface Claim {
  readonly revision: number;
  readonly pending: PendingAppend[];
  /** Of the newest of them. */
  readonly done: Promise<AppendResult>;
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
  readonly #room: LogRoom;
  readonly #out: BroadcastChannel;
  /** Revisions of streams with appends that are not committed yet; all others are in the index. */
  readonly #uncommitted = new Map<string, Claim>();
  /**
   * Committed revisions: of what was written lately, and of what was before that. To drop the oldest entry of one large
   * map instead costs V8 ten times as much as all else that is done with it.
   */
  #heads = new Map<string, number>();
  #olderHeads = new Map<string, number>();
  readonly #queue: PendingAppend[] = [];
  #committing: Promise<void> | undefined;
  #telling: NodeJS.Timeout | undefined;
  #trying: NodeJS.Timeout | undefined;
  #next: number;
  #durable: number;
  /** What was durable when the file was last looked at. */
  #seen: number | undefined;
  /** Why nothing can be appended. */
  #problem: LogUnavailable | undefined;

  /** @throws Error, one line for the operator: the file is damaged or no log, or it cannot be opened */
  static override open(path: string): EmbeddedLog {
    return new EmbeddedLog(path, openTables(path, false));
  }

  private constructor(path: string, tables: LogTables) {
    super(path, tables, new RecentEvents());
    this.#tables = tables;
    this.#room = new LogRoom(path, tables.env);
    this.#out = new BroadcastChannel(announcementsOf(path));
    this.#out.unref();
    this.#durable = super.headPosition();
    this.#next = this.#durable + 1;
  }

  append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult> {
    // Not an async function: on the busiest path of all, its promises would cost more than the checks.
    try {
      return this.#append(streamId, expected, events);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async appendMany(appends: readonly StreamAppend[]): Promise<AppendResult[]> {
    return await Promise.all(appends.map(({ streamId, expected, events }) => this.append(streamId, expected, events)));
  }

  override async close(): Promise<void> {
    this.#problem = new LogUnavailable('the event log is closed');
    clearTimeout(this.#trying);
    await this.#committing;
    clearTimeout(this.#telling);
    this.#out.close();
    await this.#room.close();
    await super.close();
  }

  override async head(): Promise<bigint> {
    if (this.#problem) throw this.#problem;
    return await super.head();
  }

  /** Only commits change the file, and only this log makes them. */
  protected override refresh(): void {
    if (this.#seen === this.#durable) return;
    this.#seen = this.#durable;
    super.refresh();
  }

  protected override headPosition(): number {
    return this.#durable;
  }

  /** The newest events are kept as they are written. */
  protected override keep(): void {}

  #append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult> {
    if (this.#problem) throw this.#problem;
    checkAppend(streamId, events);
    if (expected === 'stream-exists') return this.#extend(streamId, events);
    const actual = this.#revisionOf(streamId, expected);
    if (actual !== (expected === 'no-stream' ? undefined : expected))
      return this.#repeated(streamId, expected, events, actual);
    return this.#write(streamId, (actual ?? -1) + 1, events);
  }

  #revisionOf(streamId: string, expected: ExpectedRevision): number | undefined {
    const known =
      this.#uncommitted.get(streamId)?.revision ?? this.#heads.get(streamId) ?? this.#olderHeads.get(streamId);
    if (known !== undefined) return known;
    // A snapshot from before the last commit would not know what that has written.
    this.refresh();
    // Nearly always right, and found out without a cursor: there is no first event.
    if (expected === 'no-stream' && this.#tables.index.get([streamId, 0]) === undefined) return undefined;
    const range = { start: [streamId, Number.MAX_SAFE_INTEGER], end: [streamId], reverse: true, limit: 1 };
    for (const [, revision] of this.#tables.index.getKeys(range as never)) return revision;
    return undefined;
  }

  #write(streamId: string, first: number, events: readonly NewEvent[]): Promise<AppendResult> {
    const created = instantNow();
    let bytes = 0;
    const records = events.map((event, offset) => {
      const record = encodeRecord(streamId, first + offset, event, created);
      bytes += record.length;
      checkSizes(record.length, bytes);
      return record;
    });

    const recorded = events.map((event, offset): RecordedEvent => {
      const position = BigInt(this.#next++);
      const { id, type, data, metadata } = event;
      // Not spread: V8 adds to a spread object one property at a time, which costs microseconds.
      return { streamId, revision: first + offset, position, id, type, data, metadata, created };
    });
    const done = new Promise<AppendResult>((resolve, reject) => {
      this.#queue.push({ streamId, recorded, records, bytes, resolve, reject });
    });
    this.#claim(this.#queue.at(-1) as PendingAppend, first + events.length - 1, done);
    this.#committing ??= this.#commitAll();
    return done;
  }

  /** One commit after the other; each takes what has come while the one before was on its way to the disk. */
  async #commitAll(): Promise<void> {
    // What else this turn appends comes along.
    await nextTurn();
    while (this.#queue.length > 0) {
      const { batch, events, bytes } = this.#nextBatch();
      try {
        const room = this.#room.take(events, bytes);
        if (room) await room;
        await this.#commit(batch);
      } catch (error) {
        await this.#fail(error as Error, batch);
        break;
      }
      this.#durable = Number(batch.at(-1)?.recorded.at(-1)?.position);
      for (const { streamId, recorded, records, resolve } of batch) {
        this.#release(streamId);
        for (const [index, event] of recorded.entries()) this.recent.add(event, records[index]?.length ?? 0);
        const last = recorded.at(-1) as RecordedEvent;
        this.#keepHead(streamId, last.revision);
        resolve({ ok: true, revision: last.revision, position: last.position, idempotent: false });
      }
      this.#announce();
    }
    this.#committing = undefined;
  }

  #nextBatch(): { batch: PendingAppend[]; events: number; bytes: number } {
    let [events, bytes, count] = [0, 0, 0];
    for (const { records, bytes: size } of this.#queue) {
      if (count > 0 && (events + records.length > ENOUGH_EVENTS || bytes + size > ENOUGH_BYTES)) break;
      events += records.length;
      bytes += size;
      count++;
    }
    return { batch: this.#queue.splice(0, count), events, bytes };
  }

  #commit(batch: readonly PendingAppend[]): Promise<unknown> {
    const { log, index } = this.#tables;
    return log.batch(() => {
      // Nothing here may throw, or a part of an append would be written: keys and values were checked before.
      for (const { streamId, recorded, records } of batch)
        for (const [nth, { position, revision }] of recorded.entries()) {
          log.put(Number(position), records[nth] as Buffer, AT_THE_END).catch(failsWithBatch);
          index.put([streamId, revision], Number(position));
        }
    });
  }

  /** Any stream that exists takes the events, unless exactly they are its newest already. */
  #extend(streamId: string, events: readonly NewEvent[]): Promise<AppendResult> {
    const actual = this.#revisionOf(streamId, 'stream-exists');
    if (actual === undefined) return Promise.resolve({ ok: false, reason: 'wrong-revision', actual });
    if (!this.#areNewest(streamId, actual, events)) return this.#write(streamId, actual + 1, events);
    return this.#repeated(streamId, actual - events.length, events, actual);
  }

  #areNewest(streamId: string, actual: number, events: readonly NewEvent[]): boolean {
    // Found out at once, or an append made later could overtake this one.
    const underWay = this.#uncommitted.get(streamId)?.pending.flatMap(({ recorded }) => recorded) ?? [];
    const newest = underWay.slice(-events.length);
    const from = actual + 1 - events.length;
    if (newest.length < events.length && from >= 0) {
      this.refresh();
      newest.unshift(...this.stream(streamId, { from, limit: events.length - newest.length }));
    }
    return newest.length === events.length && newest.every(({ id }, index) => id === events[index]?.id);
  }

  /** The expectation is wrong: either these very events are there already, or somebody else's are. */
  async #repeated(
    streamId: string,
    expected: number | 'no-stream',
    events: readonly NewEvent[],
    actual: number | undefined,
  ): Promise<AppendResult> {
    // What they collide with may not be on disk yet; an answer may only speak of what is.
    await this.#uncommitted.get(streamId)?.done;
    const from = expected === 'no-stream' ? 0 : expected + 1;
    const there = await this.readStream(streamId, { from, limit: events.length });
    const last = there.at(-1);
    const same = there.length === events.length && there.every((event, index) => event.id === events[index]?.id);
    if (!last || !same) return { ok: false, reason: 'wrong-revision', actual };
    return { ok: true, revision: last.revision, position: last.position, idempotent: true };
  }

  #claim(append: PendingAppend, revision: number, done: Promise<AppendResult>): void {
    const pending = this.#uncommitted.get(append.streamId)?.pending ?? [];
    pending.push(append);
    this.#uncommitted.set(append.streamId, { revision, pending, done });
  }

  #release(streamId: string): void {
    const pending = this.#uncommitted.get(streamId)?.pending;
    pending?.shift();
    if (pending?.length === 0) this.#uncommitted.delete(streamId);
  }

  #keepHead(streamId: string, revision: number): void {
    // Commits end in order, so what comes later is further on.
    this.#heads.set(streamId, revision);
    if (this.#heads.size <= KEPT_HEADS) return;
    this.#olderHeads = this.#heads;
    this.#heads = new Map();
  }

  #announce(): void {
    this.wake();
    // Other threads read in batches anyway; telling them of every commit would cost more than it gives.
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      if (!this.#problem) this.#out.postMessage(null);
    }, TELL_OTHERS_MS).unref();
  }

  /**
   * A failed commit leaves positions and revisions assigned that were never written, so everybody who waits is refused,
   * and what is known is read again from the file before anything else is appended. What was durable before stays so:
   * a commit writes to pages that no other one uses, and its header last.
   */
  async #fail(error: Error & { commitError?: Promise<never> }, batch: readonly PendingAppend[]): Promise<void> {
    const cause: WriteError = (await error.commitError?.catch((reason: Error) => reason)) ?? error;
    const errno = cause.errno ?? -Number(cause.code);
    const [, why = cause.message] = getSystemErrorMap().get(errno) ?? [];
    const canGoOn = this.#canBegin();
    const end = canGoOn ? 'it goes on by itself once it can' : 'start Waybill again';
    const problem = new LogUnavailable(`the event log could not be written: ${why}; ${end}`, { cause });
    this.#problem ??= problem;
    this.#uncommitted.clear();
    this.#heads.clear();
    this.#olderHeads.clear();
    for (const { reject } of [...batch, ...this.#queue.splice(0)]) reject(problem);
    if (canGoOn && this.#problem === problem) this.#tryAgain(problem);
  }

  /** LMDB takes no more transactions when not even the file's header could be written: nobody knows what is on the disk. */
  #canBegin(): boolean {
    try {
      this.#tables.env.transactionSync(() => undefined);
      return true;
    } catch {
      return false;
    }
  }

  #tryAgain(problem: LogUnavailable): void {
    this.#trying = setTimeout(async () => {
      try {
        await this.#room.take(ENOUGH_EVENTS, 0);
      } catch {
        if (this.#problem === problem) this.#tryAgain(problem);
        return;
      }
      if (this.#problem !== problem) return;
      super.refresh();
      this.#durable = super.headPosition();
      this.#next = this.#durable + 1;
      this.#problem = undefined;
      this.#announce();
    }, TRY_AGAIN_MS).unref();
  }
}
