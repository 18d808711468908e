import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { type Checkpoint, originOf } from './checkpoint.js';
import { newestCheckpoint, readNotes, readVerifiers } from './checkpoint-store.js';
import { leafOf } from './entry.js';
import { HASH_BYTES, rangeProof } from './merkle.js';
import { AuditDamaged, readEntryRows, type Sql, storedSubtrees } from './store.js';
import { CHAIN_START, chained, type EntryRow, hashAt, positionAt, ROW_ENTRIES } from './tree-builder.js';

/**
 * A bundle: everything that proves a part of the trail, in JSON lines (docs/audit/bundle.md).
 *
 *     {"waybill":"audit-bundle","version":1,"origin":…,"from":…,"to":…,"chain":…,"before":[…],"keys":[…]}
 *     [index,"leaf hash","chain after it",<the leaf itself, byte for byte>]      one for each entry
 *     {"checkpoint":…}                                                          after the last entry it is about
 *     {"end":true,"after":[…],"checkpoint":…}
 *
 * It is made page by page; the cursor holds all that one page has to know of those before it.
 */
export interface BundlePage {
  readonly lines: readonly string[];
  /** For the next page; undefined when this was the last one. */
  readonly cursor: string | undefined;
  readonly progress: { readonly done: number; readonly total: number };
}

/** Which entries: those recorded from `from` (inclusive) to `to` (exclusive); default all that are signed. */
export interface BundleRange {
  readonly from?: Date | undefined;
  readonly to?: Date | undefined;
}

export class BadBundleRequest extends Error {
  override name = 'BadBundleRequest';

  constructor(
    readonly path: string,
    readonly problem: string,
  ) {
    super(`${path}: ${problem}`);
  }
}

interface State {
  readonly from: number;
  readonly to: number;
  /** Of the checkpoint at the end. */
  readonly size: number;
  readonly next: number;
  readonly chain: string;
}

export class Bundles {
  readonly #sql: Sql;
  readonly #log: string;
  readonly #reader: EventReader;

  constructor(sql: Sql, log: string, reader: EventReader) {
    this.#sql = sql;
    this.#log = log;
    this.#reader = reader;
  }

  /** @throws BadBundleRequest, AuditDamaged */
  async page(range: BundleRange, cursor: string | undefined, entries: number): Promise<BundlePage> {
    const state = cursor === undefined ? await this.#begin(range) : stateOf(cursor);
    const lines = cursor === undefined ? [await this.#header(state)] : [];
    const last = Math.min(state.to, state.next + entries);
    const { chain, next } = await this.#entries(state, last, lines);
    if (next >= state.to) lines.push(await this.#end(state));
    const following = { ...state, next, chain: chain.toString('base64') };
    return {
      lines,
      cursor: next >= state.to ? undefined : Buffer.from(JSON.stringify(following)).toString('base64url'),
      progress: { done: next - state.from, total: state.to - state.from },
    };
  }

  async #begin({ from, to }: BundleRange): Promise<State> {
    const newest = await newestCheckpoint(this.#sql, this.#log);
    if (!newest) throw new BadBundleRequest('to', 'is before the first checkpoint: make one');
    const first = from ? await this.#indexAt(from, newest) : 0;
    const end = to ? await this.#indexAt(to, newest) : newest.size;
    if (first >= end)
      throw new BadBundleRequest('from', 'there are no entries from then on, up to the newest checkpoint');
    const [covering] = await readNotes(this.#sql, this.#log, { after: end - 1, upTo: newest.size, limit: 1 });
    if (!covering) throw new AuditDamaged('the newest checkpoint of the audit trail is missing: verify the audit');
    const chain = await this.#chainBefore(first);
    return { from: first, to: end, size: covering.size, next: first, chain: chain.toString('base64') };
  }

  /** The first entry of the first row that has one recorded then or later, and there the entry itself. */
  async #indexAt(time: Date, { size }: Checkpoint): Promise<number> {
    const { rows } = await this.#sql.query<{ row_number: string | null }>(
      'select min(row_number) as row_number from audit_entries where log = $1 and last_at >= $2',
      [this.#log, time],
    );
    const row = rows[0]?.row_number;
    if (row === null || row === undefined) return size;
    const [entries] = await readEntryRows(this.#sql, this.#log, Number(row), Number(row) + 1);
    const events = entries ? await this.#reader.readAll(firstPosition(entries) - 1n, ROW_ENTRIES) : [];
    const at = events.findIndex(({ created }) => created >= time.toISOString());
    return Math.min(size, Number(row) * ROW_ENTRIES + Math.max(0, at));
  }

  async #header({ from, to, size, chain }: State): Promise<string> {
    const { before } = await rangeProof({ from, to, size }, storedSubtrees(this.#sql, this.#log));
    const keys = (await readVerifiers(this.#sql)).map(({ text }) => text);
    const origin = originOf(this.#log);
    return JSON.stringify({
      waybill: 'audit-bundle',
      version: 1,
      origin,
      from,
      to,
      chain,
      before: texts(before),
      keys,
    });
  }

  async #end({ from, to, size }: State): Promise<string> {
    const { after } = await rangeProof({ from, to, size }, storedSubtrees(this.#sql, this.#log));
    const [covering] = await readNotes(this.#sql, this.#log, { after: size - 1, upTo: size, limit: 1 });
    return JSON.stringify({ end: true, after: texts(after), checkpoint: covering?.note ?? null });
  }

  /** What is stored is told as it is, so that whoever checks it finds what does not fit. */
  async #entries({ next, chain: before, to, size }: State, last: number, lines: string[]) {
    const rows = await readEntryRows(
      this.#sql,
      this.#log,
      Math.floor(next / ROW_ENTRIES),
      Math.ceil(last / ROW_ENTRIES),
    );
    const hashes = new StoredHashes(rows);
    const notes = await readNotes(this.#sql, this.#log, { after: next, upTo: last, limit: last - next });
    const events = await this.#reader.readAll(hashes.position(next) - 1n, last - next);
    if (events.length === 0) throw new AuditDamaged(`the event log has no entry ${next}: verify the audit`);
    let chain: Buffer = Buffer.from(before, 'base64');
    let index = next;
    for (const event of events) {
      const hash = hashes.hash(index);
      chain = chained(chain, hash);
      lines.push(entryLine(index, hash, chain, event));
      index++;
      for (; notes[0] && notes[0].size <= index; notes.shift())
        if (index < to || notes[0].size !== size) lines.push(JSON.stringify({ checkpoint: notes[0].note }));
    }
    return { chain, next: index };
  }

  /** The chain is stored at the end of each row; within one it is made from its hashes. */
  async #chainBefore(index: number): Promise<Buffer> {
    if (index === 0) return CHAIN_START;
    const row = Math.floor((index - 1) / ROW_ENTRIES);
    const [before, entries] = await readEntryRows(this.#sql, this.#log, Math.max(0, row - 1), row + 1).then((found) =>
      row === 0 ? [undefined, found[0]] : found,
    );
    let chain = before?.chain ?? CHAIN_START;
    for (let at = 0; at < index - row * ROW_ENTRIES; at++)
      chain = chained(chain, hashAt(entries?.hashes ?? CHAIN_START, at));
    return chain;
  }
}

/** Hashes and positions by index, from the rows they are in. */
class StoredHashes {
  readonly #rows: ReadonlyMap<number, EntryRow>;

  constructor(rows: readonly EntryRow[]) {
    this.#rows = new Map(rows.map((row) => [row.row, row]));
  }

  hash(index: number): Buffer {
    return this.#at(index, ({ hashes }, at) => hashAt(hashes, at), HASH_BYTES);
  }

  position(index: number): bigint {
    return this.#at(index, ({ positions }, at) => positionAt(positions, at), 8).readBigInt64BE();
  }

  #at(index: number, pick: (row: EntryRow, at: number) => Buffer, bytes: number): Buffer {
    const row = this.#rows.get(Math.floor(index / ROW_ENTRIES));
    const found = row && pick(row, index % ROW_ENTRIES);
    if (found?.length !== bytes)
      throw new AuditDamaged(`entry ${index} is missing in the audit tables: verify the audit`);
    return found;
  }
}

const firstPosition = ({ positions }: EntryRow): bigint => positions.readBigInt64BE();

export const entryLine = (index: number, hash: Buffer, chain: Buffer, event: RecordedEvent): string =>
  `[${index},"${hash.toString('base64')}","${chain.toString('base64')}",${leafOf(event)}]`;

const texts = (hashes: readonly Buffer[]): string[] => hashes.map((hash) => hash.toString('base64'));

/** @throws BadBundleRequest for what no page has given */
function stateOf(cursor: string): State {
  try {
    const { from, to, size, next, chain } = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    const numbers = [from, to, size, next];
    const isOrdered = from >= 0 && from <= next && next < to && to <= size;
    if (numbers.every(Number.isSafeInteger) && isOrdered && Buffer.from(chain, 'base64').length === HASH_BYTES)
      return { from, to, size, next, chain };
  } catch {
    // Answered below.
  }
  throw new BadBundleRequest('cursor', 'is not one that a page of a bundle has given');
}
