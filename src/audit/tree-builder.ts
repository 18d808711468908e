import type { RecordedEvent } from '../event-store/event-store.js';
import { addKeys, type EntryFacts, factsOf, leafOf } from './entry.js';
import { EMPTY_ROOT, HASH_BYTES, leafHash, nodeHash, sha256 } from './merkle.js';

/** Entries in one row, and hashes in one row of nodes: a full row of nodes is one hash of the row above. */
export const ROW_ENTRIES = 256;
export const ROW_LEVELS = 8;
const POSITION_BYTES = 8;

/** The chain before the first entry. */
export const CHAIN_START = Buffer.alloc(HASH_BYTES);

/** SHA-256(chain before ‖ leaf hash): entry by entry, for whoever has no use for a tree. */
const chainInput = Buffer.alloc(2 * HASH_BYTES);
export function chained(before: Buffer, leaf: Buffer): Buffer {
  chainInput.set(before);
  chainInput.set(leaf, HASH_BYTES);
  return sha256(chainInput);
}

/** Up to 256 consecutive entries. All of it follows from the log. */
export interface EntryRow {
  readonly row: number;
  /** Log positions, 8 bytes each, big-endian. */
  readonly positions: Buffer;
  /** Leaf hashes, 32 bytes each. */
  readonly hashes: Buffer;
  /** After the newest entry of the row. */
  readonly chain: Buffer;
  /** What its entries can be found by, sorted. */
  readonly keys: readonly string[];
  /** When the earliest and the latest of them were recorded. */
  readonly firstAt: string;
  readonly lastAt: string;
}

/** Hashes of complete subtrees of 256^`level` entries, 256 in a full row; level 0 is in the rows of entries. */
export interface NodeRow {
  readonly level: number;
  readonly row: number;
  readonly hashes: Buffer;
}

/** Where a tree stands: what is needed to go on without what came before. */
export interface TreeState {
  readonly size: number;
  /** Of the newest entry. */
  readonly position: bigint;
  readonly chain: Buffer;
  /** The complete subtree that ends at the right edge, for each power of two that the size is made of. */
  readonly edge: readonly (Buffer | undefined)[];
  /** The rows that are not full. */
  readonly entries: EntryRow | undefined;
  readonly nodes: readonly NodeRow[];
}

export const emptyTree: TreeState = {
  size: 0,
  position: 0n,
  chain: CHAIN_START,
  edge: [],
  entries: undefined,
  nodes: [],
};

/** Adds entries to a tree and says which rows are new or have changed since they were last taken. */
export class TreeBuilder {
  #size: number;
  #position: bigint;
  #chain: Buffer;
  readonly #edge: (Buffer | undefined)[];
  readonly #positions = Buffer.alloc(ROW_ENTRIES * POSITION_BYTES);
  readonly #hashes = Buffer.alloc(ROW_ENTRIES * HASH_BYTES);
  #keys: Set<string>;
  /** Of the newest entry of the row: most have the same organization and actor as the one before, and nothing to add. */
  #facts: EntryFacts | undefined;
  #firstAt: string;
  #lastAt: string;
  /** By level from 1 on, the hashes of the row that is being filled. */
  readonly #nodes: Buffer[] = [];
  #full: EntryRow[] = [];
  readonly #changedNodes = new Map<string, NodeRow>();
  #isChanged = false;

  constructor(state: TreeState = emptyTree) {
    this.#size = state.size;
    this.#position = state.position;
    this.#chain = state.chain;
    this.#edge = [...state.edge];
    this.#keys = new Set(state.entries?.keys);
    this.#firstAt = state.entries?.firstAt ?? '';
    this.#lastAt = state.entries?.lastAt ?? '';
    state.entries?.positions.copy(this.#positions);
    state.entries?.hashes.copy(this.#hashes);
    for (const { level, hashes } of state.nodes) this.#nodes[level] = hashes;
  }

  get size(): number {
    return this.#size;
  }

  get position(): bigint {
    return this.#position;
  }

  get chain(): Buffer {
    return this.#chain;
  }

  get root(): Buffer {
    let root: Buffer | undefined;
    for (const [level, hash] of this.#edge.entries()) {
      if (!isInSize(this.#size, level) || !hash) continue;
      root = root ? nodeHash(hash, root) : hash;
    }
    return root ?? EMPTY_ROOT;
  }

  add(event: RecordedEvent): void {
    const leaf = leafHash(leafOf(event));
    const at = this.#size % ROW_ENTRIES;
    if (at === 0) this.#begin(event.created);
    this.#positions.writeBigInt64BE(event.position, at * POSITION_BYTES);
    this.#hashes.set(leaf, at * HASH_BYTES);
    this.#chain = chained(this.#chain, leaf);
    this.#note(factsOf(event), event.streamId);
    if (event.created < this.#firstAt) this.#firstAt = event.created;
    if (event.created > this.#lastAt) this.#lastAt = event.created;
    this.#grow(leaf);
    this.#position = event.position;
    this.#isChanged = true;
    if (at === ROW_ENTRIES - 1) this.#full.push(this.#row());
  }

  /** Rows to be written, in order; the last of the entries may not be full. */
  takeChanged(): { entries: EntryRow[]; nodes: NodeRow[] } {
    const entries = this.#full;
    if (this.#isChanged && this.#size % ROW_ENTRIES > 0) entries.push(this.#row());
    const nodes = [...this.#changedNodes.values()];
    this.#full = [];
    this.#changedNodes.clear();
    this.#isChanged = false;
    return { entries, nodes };
  }

  #note(facts: EntryFacts, streamId: string): void {
    const isLikeBefore =
      facts.organizationId === this.#facts?.organizationId &&
      facts.actor === this.#facts?.actor &&
      facts.subject === streamId;
    if (!isLikeBefore) addKeys(this.#keys, facts, streamId);
    this.#facts = facts;
  }

  #begin(created: string): void {
    this.#keys = new Set();
    this.#facts = undefined;
    this.#firstAt = created;
    this.#lastAt = created;
  }

  /** The row of the newest entry. */
  #row(): EntryRow {
    const row = Math.floor((this.#size - 1) / ROW_ENTRIES);
    const count = this.#size - row * ROW_ENTRIES;
    return {
      row,
      positions: Buffer.from(this.#positions.subarray(0, count * POSITION_BYTES)),
      hashes: Buffer.from(this.#hashes.subarray(0, count * HASH_BYTES)),
      chain: this.#chain,
      keys: [...this.#keys].sort(),
      firstAt: this.#firstAt,
      lastAt: this.#lastAt,
    };
  }

  /** Joins the new leaf with the complete subtrees left of it, as long as there are two of one size. */
  #grow(leaf: Buffer): void {
    let [hash, level] = [leaf, 0];
    while (isInSize(this.#size, level)) {
      hash = nodeHash(this.#edge[level] as Buffer, hash);
      level++;
      if (level % ROW_LEVELS === 0) this.#addNode(level / ROW_LEVELS, hash);
    }
    this.#edge[level] = hash;
    this.#size++;
  }

  /** To be called before the size counts the entry that completes the subtree. */
  #addNode(level: number, hash: Buffer): void {
    const index = (this.#size + 1) / ROW_ENTRIES ** level - 1;
    const before = index % ROW_ENTRIES === 0 ? [] : [this.#nodes[level] as Buffer];
    const hashes = Buffer.concat([...before, hash]);
    this.#nodes[level] = hashes;
    const row = Math.floor(index / ROW_ENTRIES);
    this.#changedNodes.set(`${level}/${row}`, { level, row, hashes });
  }
}

/** Whether the size has this power of two in it. */
const isInSize = (size: number, level: number): boolean => Math.floor(size / 2 ** level) % 2 === 1;

/** Eight bytes, big-endian; fewer when there is none. */
export const positionAt = (positions: Buffer, at: number): Buffer =>
  positions.subarray(at * POSITION_BYTES, (at + 1) * POSITION_BYTES);
export const hashAt = (hashes: Buffer, at: number): Buffer => hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES);
