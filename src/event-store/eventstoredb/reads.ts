import type { RecordedEvent } from '../event-store.js';
import type { Connection, ReadCall } from './connection.js';
import { isStreamDeleted, Silence } from './errors.js';
import { allRequest, type ReadMessage } from './read-messages.js';

/** A batch ends early when its events are this large together: events may hold attachments. */
export const MAX_BATCH_BYTES = 16 * 1024 * 1024;

/** Reads that are tried once. What throws a transient error may be tried again. */
export class Reads {
  readonly #connection: Connection;
  readonly #answerWithinMs: number;

  constructor(connection: Connection, answerWithinMs: number) {
    this.#connection = connection;
    this.#answerWithinMs = answerWithinMs;
  }

  /** A stream that was deleted for good has no events either. */
  async stream(request: Buffer): Promise<RecordedEvent[]> {
    const events: RecordedEvent[] = [];
    try {
      await this.#each(request, (message) => {
        if (message.kind === 'event') events.push(message.event);
        return true;
      });
    } catch (error) {
      if (!isStreamDeleted(error)) throw error;
    }
    return events;
  }

  /** At most `limit` events after a position, none only when there are none. */
  async after(position: bigint, limit: number, prefixes?: readonly string[]): Promise<RecordedEvent[]> {
    // The event at the position itself comes first.
    return await this.#all({ from: position, isBackwards: false, limit, count: limit + 1 }, prefixes);
  }

  /** The same before a position, the newest first. */
  async before(position: bigint | 'end', limit: number): Promise<RecordedEvent[]> {
    return position === 0n ? [] : await this.#all({ from: position, isBackwards: true, limit, count: limit });
  }

  async subscription(request: Buffer): Promise<{ readonly call: ReadCall; failed(error: unknown): void }> {
    const node = await this.#connection.find();
    const call = this.#connection.read(node, request, false);
    return { call, failed: (error) => this.#connection.failed(node, error) };
  }

  async #all(read: ReadOfAll, prefixes?: readonly string[]): Promise<RecordedEvent[]> {
    const { from, isBackwards, limit, count } = read;
    const events: RecordedEvent[] = [];
    if (limit <= 0) return events;
    let bytes = 0;
    let received = 0;
    let last = from;
    const request = allRequest({ from: from === 0n ? 'start' : from, isBackwards, limit: count }, prefixes);
    await this.#each(request, (message) => {
      if (message.kind === 'other') return true;
      received++;
      if (message.kind === 'checkpoint') last = message.position;
      if (message.kind !== 'event' || !isBeyond(message.event.position, read)) return true;
      if (events.push(message.event) === limit) return false;
      bytes += message.bytes;
      return bytes < MAX_BATCH_BYTES;
    });
    // As many as asked for, and none of them wanted: what follows may be.
    if (events.length === 0 && received >= count && last !== from)
      return await this.#all({ ...read, from: last }, prefixes);
    return events;
  }

  /** Calls `goesOn` with every message of a read, until that is false, the read ends or there is silence. */
  async #each(request: Buffer, goesOn: (message: ReadMessage) => boolean): Promise<void> {
    const node = this.#connection.node ?? (await this.#connection.find());
    const call = this.#connection.read(node, request, true);
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(() => {
          reject(new Silence(`the event store has not answered within ${this.#answerWithinMs} ms`));
        }, this.#answerWithinMs);
        let isReading = true;
        call.on('data', (message) => {
          if (!isReading) return;
          timer?.refresh();
          isReading = goesOn(message);
          if (!isReading) resolve();
        });
        call.on('end', resolve);
        call.on('error', reject);
      });
    } catch (error) {
      this.#connection.failed(node, error);
      throw error;
    } finally {
      clearTimeout(timer);
      call.cancel();
    }
  }
}

interface ReadOfAll {
  readonly from: bigint | 'end';
  readonly isBackwards: boolean;
  readonly limit: number;
  /** What the server is asked for. */
  readonly count: number;
}

const isBeyond = (position: bigint, { from, isBackwards }: ReadOfAll): boolean =>
  from === 'end' || (isBackwards ? position < from : position > from);
