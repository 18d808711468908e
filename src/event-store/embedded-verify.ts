import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Database, RangeOptions } from 'lmdb';
import { type LogTables, openTablesUnchecked } from './embedded-log-reader.js';
import { decodeRecord } from './embedded-record.js';

export interface Verification {
  /** Looked at: those that were there when it began. */
  readonly events: number;
  readonly streams: number;
  readonly problems: number;
  /** The first of them, in words for a person: records in the order of the log, then the index in its own order. */
  readonly first: readonly string[];
}

/** Told now and then: how much has been looked at of how much there is. */
export type Progress = (done: number, total: number) => void;

/** So much is looked at in one snapshot: a snapshot that is held keeps the writer from using old pages again. */
const CHUNK = 5_000;
const CHUNK_BYTES = 64 * 1024 * 1024;
const NAMED_PROBLEMS = 20;

interface Place {
  readonly streamId: string;
  readonly revision: number;
}

/**
 * Checks each record and each entry of the index against the other, while the log may be written: positions without
 * gaps, checksums, each event found where the index says and nowhere else, revisions of each stream without gaps.
 * Needs the same memory for any log: both tables are walked in their own order, with counters.
 *
 * @throws Error, one line: there is no log, or it cannot be opened
 */
export async function verifyLog(folder: string, progress: Progress = () => undefined): Promise<Verification> {
  const tables = openTablesUnchecked(folder, true);
  try {
    return await new Verifier(tables, progress).run();
  } finally {
    await tables.env.close();
  }
}

class Verifier {
  readonly #tables: LogTables;
  readonly #progress: Progress;
  readonly #first: string[] = [];
  #problems = 0;
  #events = 0;
  #streams = 0;
  #head = 0;
  #done = 0;

  constructor(tables: LogTables, progress: Progress) {
    this.#tables = tables;
    this.#progress = progress;
  }

  async run(): Promise<Verification> {
    const { log, env } = this.#tables;
    env.resetReadTxn();
    for (const position of log.getKeys({ reverse: true, limit: 1 })) this.#head = position;
    await this.#records();
    await this.#entries();
    return { events: this.#events, streams: this.#streams, problems: this.#problems, first: this.#first };
  }

  /** The log in its order: every position, and whether the index leads to it. */
  async #records(): Promise<void> {
    let next = 1;
    await this.#walk(this.#tables.log, { start: 1 }, (position, bytes) => {
      if (position > this.#head) return false;
      if (position !== next)
        this.#problem(`position ${next} is missing${position === next + 1 ? '' : `, and all up to ${position - 1}`}`);
      next = position + 1;
      this.#events++;
      const place = placeIn(position, bytes);
      if (place instanceof Error) this.#problem(place.message);
      else this.#compareWithIndex(place, position);
      return true;
    });
  }

  /** The index in its order: every revision, and whether its event is there. */
  async #entries(): Promise<void> {
    // Where each record leads to an entry of its own and there are as many of both, they are the same ones.
    const isSuspect = this.#problems > 0 || this.#hasUnequalTables();
    let last: Place = { streamId: '', revision: -1 };
    await this.#walk(this.#tables.index, {}, ([streamId, revision], position) => {
      // Written since.
      if (position > this.#head) return true;
      const isSame = streamId === last.streamId;
      if (!isSame) this.#streams++;
      const expected = isSame ? last.revision + 1 : 0;
      if (revision !== expected) this.#problem(`revision ${expected} of ${streamId} is missing`);
      last = { streamId, revision };
      if (isSuspect) this.#compareWithLog(last, position);
      return true;
    });
  }

  #compareWithIndex(place: Place, position: number): void {
    const found = this.#tables.index.get([place.streamId, place.revision]);
    if (found === position) return;
    this.#problem(`position ${position} has ${nameOf(place)}, for which the index has ${found ?? 'nothing'}`);
  }

  #compareWithLog(place: Place, position: number): void {
    const bytes = this.#tables.log.get(position);
    const there = bytes && placeIn(position, bytes);
    // A damaged record is known from the log.
    if (there instanceof Error || (there && nameOf(there) === nameOf(place))) return;
    this.#problem(
      `the index has position ${position} for ${nameOf(place)}, where the log has ${there ? nameOf(there) : 'nothing'}`,
    );
  }

  #hasUnequalTables(): boolean {
    const { log, index, env } = this.#tables;
    env.resetReadTxn();
    const [records, entries] = [log, index].map((table) => (table.getStats() as { entryCount: number }).entryCount);
    return records !== entries;
  }

  /** A table in snapshots of so many entries each, with turns for everybody else in between, until `look` says no. */
  async #walk<Value, Key extends number | [string, number]>(
    table: Database<Value, Key>,
    range: RangeOptions,
    look: (key: Key, value: Value) => boolean,
  ): Promise<void> {
    for (let rest: RangeOptions | undefined = range; rest; await nextTurn()) {
      this.#tables.env.resetReadTxn();
      let [count, bytes] = [0, 0];
      let last: Key | undefined;
      try {
        for (const { key, value } of table.getRange(rest)) {
          last = key;
          if (!look(key, value)) return;
          bytes += value instanceof Uint8Array ? value.length : 0;
          if (++count === CHUNK || bytes > CHUNK_BYTES) break;
        }
      } catch (error) {
        const where = last === undefined ? 'the log or its index' : `what follows ${JSON.stringify(last)}`;
        return this.#problem(`${where} cannot be read: ${(error as Error).message}`);
      }
      rest = count < CHUNK && bytes <= CHUNK_BYTES ? undefined : { start: last as Key, exclusiveStart: true };
      this.#done += count;
      this.#progress(this.#done, 2 * this.#head);
    }
  }

  #problem(text: string): void {
    this.#problems++;
    if (this.#first.length < NAMED_PROBLEMS) this.#first.push(text);
  }
}

function placeIn(position: number, bytes: Buffer): Place | Error {
  try {
    return decodeRecord(position, bytes);
  } catch (error) {
    return error as Error;
  }
}

const nameOf = ({ streamId, revision }: Place): string => `revision ${revision} of ${streamId}`;
