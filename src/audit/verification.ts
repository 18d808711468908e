import type { EventReader } from '../event-store/event-store.js';
import { originOf, parseCheckpoint } from './checkpoint.js';
import { readNotes, readVerifiers, type StoredNote } from './checkpoint-store.js';
import { HASH_BYTES } from './merkle.js';
import { MalformedNote, problemWith, type Verifier } from './signed-note.js';
import { nodeLevels, readEntryRows, readHead, readNodeRows, type Sql, type TreeHead } from './store.js';
import {
  CHAIN_START,
  type EntryRow,
  hashAt,
  type NodeRow,
  positionAt,
  ROW_ENTRIES,
  TreeBuilder,
} from './tree-builder.js';

export interface AuditVerification {
  readonly ok: boolean;
  /** How many were found to be right, from the first on. */
  readonly entries: number;
  readonly firstBadIndex: number | null;
  /** What is wrong with it, for a person. */
  readonly problem: string | null;
}

export interface VerificationOptions {
  readonly reader: EventReader;
  readonly sql: Sql;
  readonly log: string;
  /** Keys that are known from elsewhere than the database. */
  readonly trusted: readonly Verifier[];
  /** Checkpoints that are kept elsewhere than in the database: they must hold as well. */
  readonly published?: readonly string[];
  readonly signal?: AbortSignal;
}

interface KnownNote extends StoredNote {
  readonly isPublished: boolean;
}

/** Entry `index` is the first that cannot be relied on. */
class Bad extends Error {
  constructor(
    readonly index: number,
    problem: string,
  ) {
    super(problem);
  }
}

const READ_EVENTS = 500;
const READ_ROWS = 32;
const READ_NOTES = 1_000;

/**
 * Makes the whole trail again from the log, beside what is stored, and compares the two entry by entry: hashes,
 * positions, chain and search keys, the nodes above them, and every checkpoint with its signatures.
 */
export async function verifyAudit(options: VerificationOptions): Promise<AuditVerification> {
  const verification = new Verification(options);
  try {
    const entries = await verification.run();
    return { ok: true, entries, firstBadIndex: null, problem: null };
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    return { ok: false, entries: error.index, firstBadIndex: error.index, problem: error.message };
  }
}

class Verification {
  readonly #options: VerificationOptions;
  readonly #tree = new TreeBuilder();
  #verifiers: Verifier[] = [];
  /** Rows of nodes that are not full, by level. */
  readonly #partial = new Map<number, NodeRow>();
  /** Entries up to the newest checkpoint that holds, and to the newest of them in the database. */
  #confirmed = 0;
  #previous = 0;

  constructor(options: VerificationOptions) {
    this.#options = options;
  }

  async run(): Promise<number> {
    const { sql, log, reader, signal } = this.#options;
    this.#verifiers = await this.#keys();
    const head = (await readHead(sql, log)) ?? { size: 0, position: 0n, chain: CHAIN_START };
    // Rows that are not full change while the trail grows: this one is taken as it is at the beginning.
    const edge = Math.floor(head.size / ROW_ENTRIES);
    const [edgeRow] = await readEntryRows(sql, log, edge, edge + 1);
    const notes = this.#notes(head.size);
    let note = await notes.next();
    let suspect: Bad | undefined;
    while (this.#tree.size < head.size) {
      const events = await reader.readAll(this.#tree.position, READ_EVENTS);
      if (events.length === 0) throw new Bad(this.#tree.size, `the event log ends before entry ${this.#tree.size}`);
      for (const event of events) {
        this.#tree.add(event);
        while (!suspect && !note.done && note.value.size <= this.#tree.size) {
          suspect = this.#problemOf(note.value);
          note = await notes.next();
        }
        if (suspect || this.#tree.size === head.size) break;
      }
      // What is stored may tell which entry it is, where a checkpoint knows only that there is one.
      await this.#compare(edgeRow, suspect ? 'cut-short' : this.#tree.size === head.size ? 'at-end' : 'under-way');
      if (suspect) throw suspect;
      signal?.throwIfAborted();
    }
    if (!note.done)
      throw new Bad(head.size, `entries from ${head.size} on are missing: there is a checkpoint of ${note.value.size}`);
    for (const row of this.#partial.values()) await this.#compareNodes(row);
    this.#checkHead(head);
    await this.#checkCounts();
    return head.size;
  }

  async #keys(): Promise<Verifier[]> {
    try {
      return [...this.#options.trusted, ...(await readVerifiers(this.#options.sql))];
    } catch (error) {
      if (error instanceof MalformedNote) throw new Bad(0, `a published key ${error.message}`);
      throw error;
    }
  }

  /** Those of the database and those published, by size. What was signed since this began is the next one's business. */
  async *#notes(upTo: number): AsyncGenerator<KnownNote> {
    const { sql, log, published = [] } = this.#options;
    const elsewhere = published
      .map((note): KnownNote => ({ size: sizeOf(note), note, isPublished: true }))
      .sort((a, b) => a.size - b.size);
    for (let after = -1; ; ) {
      const stored = await readNotes(sql, log, { after, upTo: Number.MAX_SAFE_INTEGER, limit: READ_NOTES });
      for (const { size, note } of stored) {
        while (elsewhere[0] && elsewhere[0].size <= size) yield elsewhere.shift() as KnownNote;
        if (size <= upTo || !(await this.#hasGrownTo(size))) yield { size, note, isPublished: false };
      }
      after = stored.at(-1)?.size ?? after;
      if (stored.length < READ_NOTES) break;
    }
    for (const note of elsewhere) if (note.size <= upTo || !(await this.#hasGrownTo(note.size))) yield note;
  }

  async #hasGrownTo(size: number): Promise<boolean> {
    return ((await readHead(this.#options.sql, this.#options.log))?.size ?? 0) >= size;
  }

  #problemOf({ size, note, isPublished }: KnownNote): Bad | undefined {
    const { root, position, chain } = this.#tree;
    const bad = (problem: string) => new Bad(this.#confirmed, `the checkpoint of ${size} entries ${problem}`);
    if (size !== this.#tree.size) return bad('is out of order');
    try {
      const checkpoint = parseCheckpoint(note);
      const problem = problemWith(checkpoint.parsed, this.#verifiers);
      if (problem !== undefined) return bad(problem);
      if (checkpoint.size !== size) return bad(`says that it is of ${checkpoint.size}`);
      if (checkpoint.origin !== originOf(this.#options.log)) return bad('is of another log');
      if (!isPublished && checkpoint.previous !== this.#previous)
        return bad(`follows one of ${checkpoint.previous} entries, which is missing`);
      if (!checkpoint.root.equals(root) || !checkpoint.chain.equals(chain) || checkpoint.position !== position)
        return bad(`does not agree: an entry from ${this.#confirmed} to ${size - 1} was changed in the log`);
    } catch (error) {
      if (error instanceof MalformedNote) return bad(error.message);
      throw error;
    }
    this.#confirmed = size;
    if (!isPublished) this.#previous = size;
    return undefined;
  }

  /**
   * What the tree has made since the last time, against what is stored.
   *
   * @param edge the stored row that was not full at the beginning
   * @param where a row that is not full is compared at the end, and as far as it goes where the tree was cut short
   */
  async #compare(edge: EntryRow | undefined, where: 'under-way' | 'cut-short' | 'at-end'): Promise<void> {
    const { sql, log } = this.#options;
    const { entries, nodes } = this.#tree.takeChanged();
    const isFull = ({ hashes }: { hashes: Buffer }) => hashes.length === ROW_ENTRIES * HASH_BYTES;
    for (let at = 0; at < entries.length; at += READ_ROWS) {
      const made = entries.slice(at, at + READ_ROWS);
      const first = made[0] as EntryRow;
      const stored = await readEntryRows(sql, log, first.row, first.row + made.length);
      for (const row of made) {
        const found = stored.find((candidate) => candidate.row === row.row);
        if (isFull(row)) compareEntries(row, found, true);
        else if (where === 'cut-short') compareEntries(row, found, false);
        else if (where === 'at-end') compareEntries(row, edge, true);
      }
    }
    for (const row of nodes) {
      if (isFull(row)) await this.#compareNodes(row);
      else this.#partial.set(row.level, row);
    }
  }

  async #compareNodes(made: NodeRow): Promise<void> {
    const { sql, log } = this.#options;
    const [stored] = await readNodeRows(sql, log, made.level, made.row, made.row + 1);
    const covered = ROW_ENTRIES ** made.level;
    for (let at = 0; at < made.hashes.length / HASH_BYTES; at++) {
      if (stored && hashAt(made.hashes, at).equals(hashAt(stored.hashes, at))) continue;
      const first = (made.row * ROW_ENTRIES + at) * covered;
      throw new Bad(first, `the stored node over the entries ${first} to ${first + covered - 1} is not theirs`);
    }
  }

  #checkHead({ size, position, chain }: TreeHead): void {
    if (this.#tree.position === position && this.#tree.chain.equals(chain)) return;
    const newest = Math.max(0, size - 1);
    throw new Bad(newest, `the position or the chain stored for entry ${newest}, the newest, is another one`);
  }

  /** There must be no hash more or less than the tree has; counted in one statement, because it may be growing. */
  async #checkCounts(): Promise<void> {
    const { sql, log } = this.#options;
    const { rows } = await sql.query<{ size: string; entries: string; nodes: Record<string, number> }>(
      `select size,
         (select coalesce(sum(octet_length(hashes)), 0) / ${HASH_BYTES}.0 from audit_entries where log = $1) as entries,
         (select coalesce(jsonb_object_agg(level, hashes), '{}') from (
            select level, sum(octet_length(hashes)) / ${HASH_BYTES}.0 as hashes from audit_nodes
            where log = $1 group by level) as counted) as nodes
       from audit_trees where log = $1`,
      [log],
    );
    const size = Number(rows[0]?.size ?? 0);
    const counts = new Map(Object.entries(rows[0]?.nodes ?? {}).map(([level, count]) => [Number(level), count]));
    const levels = Math.max(nodeLevels(size), ...counts.keys());
    const areNodesRight = Array.from({ length: levels }, (_, at) => at + 1).every(
      (level) => (counts.get(level) ?? 0) === Math.floor(size / ROW_ENTRIES ** level),
    );
    if (Number(rows[0]?.entries ?? 0) !== size || !areNodesRight)
      throw new Bad(size, `there are rows for entries that do not exist, from ${size} on`);
  }
}

/** @param isWhole whether the stored row must have no more than the made one */
function compareEntries(made: EntryRow, stored: EntryRow | undefined, isWhole: boolean): void {
  const first = made.row * ROW_ENTRIES;
  if (!stored) throw new Bad(first, `the row with the entries from ${first} on is missing`);
  const count = made.hashes.length / HASH_BYTES;
  for (let at = 0; at < count; at++) {
    const entry = first + at;
    if (!hashAt(made.hashes, at).equals(hashAt(stored.hashes, at)))
      throw new Bad(entry, `the stored hash of entry ${entry} is not that of the event in the log`);
    if (!positionAt(made.positions, at).equals(positionAt(stored.positions, at)))
      throw new Bad(entry, `the stored position of entry ${entry} is not that of the event in the log`);
  }
  if (!isWhole) return;
  const last = first + count - 1;
  if (stored.hashes.length !== made.hashes.length || stored.positions.length !== made.positions.length)
    throw new Bad(last + 1, `there is an entry ${last + 1} that the log does not have`);
  if (!stored.chain.equals(made.chain)) throw new Bad(last, `the chain after entry ${last} is another one`);
  const isFound = stored.firstAt === made.firstAt && stored.lastAt === made.lastAt;
  if (!isFound || JSON.stringify(stored.keys) !== JSON.stringify(made.keys))
    throw new Bad(first, `what the entries from ${first} on are found by does not follow from the log`);
}

function sizeOf(note: string): number {
  try {
    return parseCheckpoint(note).size;
  } catch {
    // It is checked, and found to be malformed, with the first entry.
    return 1;
  }
}
