import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BroadcastChannel } from 'node:worker_threads';
import { type Database, open, type RangeOptions, type RootDatabase } from 'lmdb';
import { checkDataFile, DATA_FILE } from './embedded-file.js';
import { whileOthersPause } from './embedded-opening.js';
import { decodeRecord, LogCorrupted } from './embedded-record.js';
import {
  type EventReader,
  type RecordedEvent,
  type StreamRange,
  type SubscribeOptions,
  type SubscriptionBatch,
  textOf,
} from './event-store.js';
import { RecentEvents } from './recent-events.js';

export interface LogTables {
  readonly env: RootDatabase;
  /** position → record */
  readonly log: Database<Buffer, number>;
  /** [stream id, revision] → position */
  readonly index: Database<number, [string, number]>;
}

/** How often a reader looks for new events by itself when no writer of this process tells it. */
const POLL_MS = 250;
const DEFAULT_BATCH = 500;
/** As many as come between one look of a subscription and its next one, when there is much to do. */
const READ_AHEAD_EVENTS = 2_048;
/** A batch ends early when its records are this large together: events may hold attachments. */
const MAX_BATCH_BYTES = 16 * 1024 * 1024;

/** @throws LogCorrupted, Error, one line: the file is no log, is damaged, or cannot be opened; or there is none to read */
export function openTables(path: string, readOnly: boolean): LogTables {
  const tables = openTablesUnchecked(path, readOnly);
  try {
    checkHead(tables);
    return tables;
  } catch (error) {
    void tables.env.close();
    throw cannotOpen(path, error as Error);
  }
}

/** The same for a log whose two tables may not agree. */
export function openTablesUnchecked(path: string, readOnly: boolean): LogTables {
  if (readOnly && !existsSync(join(path, DATA_FILE))) throw new Error(`there is no event log in ${path}`);
  const { tables } = checkDataFile(path, !readOnly);
  let env: RootDatabase | undefined;
  try {
    // overlappingSync off: a commit's promise resolves after its fsync, and no reader sees what could still be lost.
    // eventTurnBatching off: the batches are the log's own; of lmdb's, a failure would reject a promise that nobody has.
    const opened = () =>
      open({ path, readOnly, maxDbs: 8, overlappingSync: false, eventTurnBatching: false, noSubdir: false });
    env = readOnly ? whileOthersPause(path, opened) : opened();
    // Made in this order, and only in a new file: elsewhere, that one is missing means that the file is another.
    const log = env.openDB<Buffer, number>('log', { encoding: 'binary', create: tables === 0 } as never);
    const index = log && env.openDB<number, [string, number]>('index', { create: tables < 2 } as never);
    // What lmdb's types do not tell: a table that is not there, and may not be made, is undefined.
    if (!log || !index) throw new LogCorrupted('it has not the tables of an event log');
    return { env, log, index };
  } catch (error) {
    void env?.close();
    throw cannotOpen(path, error as Error);
  }
}

function cannotOpen(path: string, error: Error): Error {
  const message = `the event log in ${path} cannot be opened: ${error.message}`;
  return error instanceof LogCorrupted ? new LogCorrupted(message) : new Error(message, { cause: error });
}

/** What can be told of a whole log by its newest event: there are as many entries as positions, in both tables. */
function checkHead({ log, index }: LogTables): void {
  const [events, entries] = [log, index].map((table) => (table.getStats() as { entryCount: number }).entryCount);
  let head = 0;
  for (const { key, value } of log.getRange({ reverse: true, limit: 1 })) {
    head = key;
    const { streamId, revision } = decodeRecord(key, value);
    if (index.get([streamId, revision]) !== head)
      throw new LogCorrupted(`its newest event, at position ${head}, is not in its index`);
  }
  if (events !== head) throw new LogCorrupted(`it has ${events} events, but its newest is at position ${head}`);
  if (entries !== events) throw new LogCorrupted(`it has ${events} events and ${entries} entries in its index`);
}

/** A subscription. */
interface Follower {
  /** Up to where it is done. */
  after: number;
  /** Lets it look again; undefined while it is not waiting for that. */
  look: (() => void) | undefined;
}

/**
 * Reads the embedded log, from the writer's own thread, another thread or another process; LMDB gives each read a
 * consistent snapshot, so a reader never sees a gap that is filled later.
 */
export class EmbeddedLogReader implements EventReader {
  /** What the foremost subscription of this thread has read, for those that follow it closely. */
  protected readonly recent: RecentEvents;
  readonly #tables: LogTables;
  readonly #announcements: BroadcastChannel;
  readonly #following = new Set<Follower>();
  /** Runs while there are subscriptions. */
  #polling: NodeJS.Timeout | undefined;
  #isClosed = false;

  static open(path: string): EmbeddedLogReader {
    return new EmbeddedLogReader(path, openTables(path, true));
  }

  constructor(path: string, tables: LogTables, recent = new RecentEvents(READ_AHEAD_EVENTS)) {
    this.recent = recent;
    this.#tables = tables;
    this.#announcements = new BroadcastChannel(announcementsOf(path));
    this.#announcements.onmessage = () => this.wake();
    this.#announcements.unref();
  }

  async readStream(streamId: string, range: StreamRange = {}): Promise<RecordedEvent[]> {
    this.refresh();
    return this.stream(streamId, range);
  }

  async readLast(streamId: string): Promise<RecordedEvent | undefined> {
    this.refresh();
    return this.stream(streamId, { direction: 'backwards', limit: 1 })[0];
  }

  async readAll(after: bigint, limit: number): Promise<RecordedEvent[]> {
    this.refresh();
    return this.eventsAfter(Number(after), limit);
  }

  async readAllBackwards(before: bigint | 'end', limit: number): Promise<RecordedEvent[]> {
    this.refresh();
    const newest = before === 'end' ? this.headPosition() : Math.min(Number(before) - 1, this.headPosition());
    return this.#batch({ start: newest, end: 0, reverse: true, limit });
  }

  async head(): Promise<bigint> {
    this.refresh();
    return BigInt(this.headPosition());
  }

  eventsBetween(after: bigint, upTo: bigint): number {
    return upTo > after ? Number(upTo - after) : 0;
  }

  async *subscribe(options: SubscribeOptions): AsyncGenerator<SubscriptionBatch> {
    const { prefixes, batchSize = DEFAULT_BATCH, signal } = options;
    const follower: Follower = { after: Number(options.after), look: undefined };
    const look = () => lookAgain(follower);
    let announced = false;
    this.#following.add(follower);
    this.#polling ??= setInterval(() => this.wake(), POLL_MS);
    signal.addEventListener('abort', look);
    try {
      while (!signal.aborted && !this.#isClosed) {
        this.refresh();
        const head = this.headPosition();
        if (follower.after < head) {
          const read = this.eventsAfter(follower.after, batchSize);
          const position = Number(read.at(-1)?.position ?? follower.after);
          announced = position >= head;
          if (announced) this.keep(read);
          const events = prefixes ? read.filter((event) => startsWithAny(event.streamId, prefixes)) : read;
          yield { events, position: BigInt(position), caughtUp: announced };
          follower.after = position;
          // A long way behind, there is always more to read: everybody else of this thread comes in between.
          if (!announced) await nextTurn();
        } else if (!announced) {
          announced = true;
          yield { events: [], position: BigInt(follower.after), caughtUp: true };
        } else {
          this.#forget();
          await new Promise<void>((resolve) => {
            follower.look = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', look);
      this.#following.delete(follower);
      if (this.#following.size === 0) {
        clearInterval(this.#polling);
        this.#polling = undefined;
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#polling);
    this.#announcements.close();
    this.wake();
    await this.#tables.env.close();
  }

  protected stream(streamId: string, range: StreamRange): RecordedEvent[] {
    const { limit = Number.MAX_SAFE_INTEGER, direction = 'forwards' } = range;
    const isForwards = direction === 'forwards';
    const from = range.from ?? (isForwards ? 0 : Number.MAX_SAFE_INTEGER);
    // LMDB's start is inclusive, its end is not; no revision is below 0.
    const end = isForwards ? [streamId, Number.MAX_SAFE_INTEGER] : [streamId];
    const positions = this.#tables.index.getRange({
      start: [streamId, from],
      end,
      limit,
      reverse: !isForwards,
    } as never);
    const events: RecordedEvent[] = [];
    for (const { value } of positions) events.push(this.#at(value));
    return events;
  }

  /** Ends this event turn's snapshot, so that the next read sees all that is committed. */
  protected refresh(): void {
    this.#tables.env.resetReadTxn();
  }

  protected headPosition(): number {
    for (const position of this.#tables.log.getKeys({ reverse: true, limit: 1 })) return position;
    return 0;
  }

  protected eventsAfter(after: number, limit: number): RecordedEvent[] {
    return this.recent.after(after, limit) ?? this.#batch({ start: after + 1, limit });
  }

  /** @param read up to the head */
  protected keep(read: readonly RecordedEvent[]): void {
    const { position } = this.recent;
    for (const event of read) if (event.position > position) this.recent.add(event, textOf(event).length);
  }

  /** Lets every waiting subscription look again. */
  protected wake(): void {
    for (const follower of this.#following) lookAgain(follower);
  }

  /** What all that are not a long way behind are done with. To be kept any longer would make it outlive a young generation. */
  #forget(): void {
    const { first } = this.recent;
    let done = Number.POSITIVE_INFINITY;
    for (const { after } of this.#following) if (after >= first - 1 && after < done) done = after;
    this.recent.forget(done);
  }

  #at(position: number): RecordedEvent {
    const bytes = this.#tables.log.get(position);
    if (!bytes) throw new LogCorrupted(`the event log's index names position ${position}, which the log does not have`);
    return decodeRecord(position, bytes);
  }

  #batch(range: RangeOptions): RecordedEvent[] {
    const events: RecordedEvent[] = [];
    let bytes = 0;
    for (const { key, value } of this.#tables.log.getRange(range)) {
      events.push(decodeRecord(key, value));
      bytes += value.length;
      if (bytes >= MAX_BATCH_BYTES) break;
    }
    return events;
  }
}

function lookAgain(follower: Follower): void {
  const { look } = follower;
  follower.look = undefined;
  look?.();
}

/** The channel on which the writer tells the other threads of its process that there is something new. */
export const announcementsOf = (path: string): string => `waybill-log:${path}`;

const startsWithAny = (text: string, prefixes: readonly string[]): boolean =>
  prefixes.some((prefix) => text.startsWith(prefix));
