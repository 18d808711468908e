import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { LogCorrupted } from './embedded-record.js';

/**
 * What of an LMDB file can be checked before LMDB maps it into memory, where a page that the file does not have would
 * end the process (SIGBUS) and a header that leads to the wrong pages would hide events or write over them.
 *
 * Format: the structs MDB_page_header, MDB_db, MDB_meta and MDB_node of mdb.c, data version 2, as the package `lmdb` has
 * it; all numbers little-endian. Two header ("meta") pages take turns: transaction n writes page n mod 2. Every page
 * names the transaction that wrote it, and every transaction of the log writes the root of the main tree, which has the
 * roots of the tables, and that of the free tree, which has the pages to be used again.
 */
export const DATA_FILE = 'data.mdb';

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const PAGE_HEADER_BYTES = 24;
const NODE_HEADER_BYTES = 8;
const META_BYTES = PAGE_HEADER_BYTES + 144;
const TREE_BYTES = 48;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
/** Flags of a page. */
const [BRANCH, LEAF, META] = [1, 2, 8];
/** Flag of a tree: its keys are numbers. */
const INTEGER_KEYS = 8;
/** Flag of a node: its value has pages of its own. */
const BIG_VALUE = 1;
/** In the same place, what the environment was made with (LMDB_RESTORE=safe, metrics): of no consequence here. */
const OTHER_FLAGS = 0xc00;
const MAX_DEPTH = 32;
/** More than any memory can be mapped to; lmdb asks for as much where it maps only parts. */
const MAX_MAP_BYTES = 1n << 53n;

/** A writer that commits while we read can make what we read look wrong, though not so often in a row. */
const TRIES = 50;

interface Tree {
  readonly flags: number;
  readonly depth: number;
  readonly pages: bigint;
  readonly entries: bigint;
  readonly root: bigint;
}

interface Meta {
  readonly transaction: bigint;
  readonly pageSize: number;
  readonly lastPage: bigint;
  readonly free: Tree;
  readonly main: Tree;
}

export interface DataFile {
  /** How many tables it has; 0 when it has just been made, or is not there. */
  readonly tables: number;
}

/**
 * @param isAlone nobody else writes to the file: what would otherwise change while it is read is checked as well
 * @throws LogCorrupted when the file cannot be a whole log
 */
export function checkDataFile(folder: string, isAlone: boolean): DataFile {
  const path = join(folder, DATA_FILE);
  if (!existsSync(path)) return { tables: 0 };
  const file = openSync(path, 'r');
  try {
    for (let left = TRIES; ; left--) {
      const found = new FileReader(file).check(isAlone);
      if (typeof found !== 'string') return { tables: Number(found.main.entries) };
      if (left === 1 || isAlone) throw new LogCorrupted(`the event log ${path} is damaged: ${found}`);
    }
  } finally {
    closeSync(file);
  }
}

class FileReader {
  readonly #file: number;
  readonly #size: number;
  #pageSize = 0;

  constructor(file: number) {
    this.#file = file;
    this.#size = fstatSync(file).size;
  }

  /** @returns the newest header, or what is wrong */
  check(isAlone: boolean): Meta | string {
    if (this.#size === 0) return 'the file is empty';
    const first = this.#meta(0);
    if (typeof first === 'string') return first;
    this.#pageSize = first.pageSize;
    const second = this.#meta(1);
    if (typeof second === 'string') return second;
    const [newer, older] = first.transaction > second.transaction ? [first, second] : [second, first];
    if (newer.pageSize !== older.pageSize) return 'its two headers disagree';
    // Of a new or compacted file, one header was never used.
    if (newer.transaction !== older.transaction + 1n && older.transaction !== 0n)
      return 'its two headers do not follow one another';
    const isCopy = older.transaction === 0n;
    return (
      this.#problemOfRoots(newer, isCopy) ??
      // What the older one leads to is used again two transactions later, not before: until then it tells whether it is
      // older. It may be that of a copy, to which one transaction was added.
      (isAlone && !isCopy ? this.#problemOfRoots(older, true) : undefined) ??
      this.#problemOfPages(newer, isAlone) ??
      newer
    );
  }

  #meta(number: number): Meta | string {
    const bytes = this.#bytes(BigInt(number * this.#pageSize), META_BYTES);
    if (!bytes) return 'it ends within its headers';
    if (bytes.readUInt32LE(24) !== MAGIC) return 'it is not an LMDB file';
    if (bytes.readUInt32LE(28) !== DATA_VERSION) return 'it has a format that this Waybill does not know';
    const meta = {
      transaction: bytes.readBigUInt64LE(152),
      // The field is the free tree's.
      pageSize: bytes.readUInt32LE(48),
      lastPage: bytes.readBigUInt64LE(144),
      free: treeIn(bytes, 48),
      main: treeIn(bytes, 96),
    };
    const { transaction, pageSize, lastPage, free, main } = meta;
    const mapped = bytes.readBigUInt64LE(40);
    const isTree = ({ root, depth }: Tree) =>
      root === NO_PAGE ? depth === 0 : root > 1n && root <= lastPage && depth > 0 && depth <= MAX_DEPTH;
    const isRight =
      bytes.readBigUInt64LE(0) === BigInt(number) &&
      bytes.readUInt16LE(18) === META &&
      bytes.readBigUInt64LE(32) === 0n &&
      (transaction === 0n ? main.root === NO_PAGE : Number(transaction & 1n) === number) &&
      pageSize >= 512 &&
      pageSize <= 65_536 &&
      (pageSize & (pageSize - 1)) === 0 &&
      mapped >= (lastPage + 1n) * BigInt(pageSize) &&
      mapped < MAX_MAP_BYTES &&
      isTree(free) &&
      isTree(main) &&
      main.flags === 0 &&
      ((free.flags & ~OTHER_FLAGS) === INTEGER_KEYS || free.root === NO_PAGE);
    return isRight ? meta : `its header ${number + 1} makes no sense`;
  }

  #problemOfRoots({ main, free, transaction }: Meta, mayBeCopy: boolean): string | undefined {
    return this.#problemOfRoot(main, transaction, mayBeCopy) ?? this.#problemOfRoot(free, transaction, mayBeCopy);
  }

  #problemOfRoot({ root }: Tree, transaction: bigint, mayBeCopy: boolean): string | undefined {
    if (root === NO_PAGE) return undefined;
    const page = this.#page(root);
    if (!page) return 'its end is missing';
    const isTree = (page.readUInt16LE(18) & (BRANCH | LEAF)) !== 0 && page.readBigUInt64LE(0) === root;
    const writtenBy = page.readBigUInt64LE(8);
    // A compacted copy's pages carry no transaction of their own.
    if (isTree && (writtenBy === transaction || (mayBeCopy && writtenBy <= 1n))) return undefined;
    return 'its headers do not belong to its newest pages';
  }

  /**
   * No page is used twice or beyond the last. The file may be shorter than its header says when the pages at its end are
   * free and were never written.
   */
  #problemOfPages({ main, free, lastPage }: Meta, isAlone: boolean): string | undefined {
    const there = BigInt(Math.floor(this.#size / this.#pageSize));
    const isShort = there <= lastPage;
    if (!isShort && !isAlone) return undefined;
    let used = 2n + main.pages + free.pages;
    let freeAndMissing = 0n;
    try {
      for (const table of this.#values(main)) used += treeIn(table, 0).pages;
      for (const list of this.#values(free))
        for (const [page, count] of pagesIn(list)) {
          if (page < 2n || page + count > lastPage + 1n) return 'its list of free pages makes no sense';
          used += count;
          if (page + count > there) freeAndMissing += page + count - (page > there ? page : there);
        }
    } catch {
      return isShort ? 'its end is missing' : 'its main tables cannot be read';
    }
    if (isShort && freeAndMissing !== lastPage + 1n - there)
      return `it has ${there} pages of ${lastPage + 1n}, its end is missing`;
    return used > lastPage + 1n ? 'it names more pages than it has' : undefined;
  }

  /** @throws RangeError where the file or a page of it has not what the tree says */
  *#values({ root, depth }: Pick<Tree, 'root' | 'depth'>): Generator<Buffer> {
    if (root === NO_PAGE) return;
    const page = this.#page(root);
    if (!page || depth < 1) throw new RangeError();
    const nodes = page.readUInt16LE(20) >> 1;
    for (let node = 0; node < nodes; node++) {
      const at = PAGE_HEADER_BYTES + page.readUInt16LE(PAGE_HEADER_BYTES + 2 * node);
      const size = page.readUInt32LE(at);
      const flags = page.readUInt16LE(at + 4);
      const value = at + NODE_HEADER_BYTES + page.readUInt16LE(at + 6);
      if (page.readUInt16LE(18) & BRANCH)
        yield* this.#values({ root: BigInt(size) | (BigInt(flags) << 32n), depth: depth - 1 });
      else if (flags & BIG_VALUE) {
        const start = page.readBigUInt64LE(value) * BigInt(this.#pageSize);
        const large = this.#bytes(start + BigInt(PAGE_HEADER_BYTES), size);
        if (!large) throw new RangeError();
        yield large;
      } else yield page.subarray(value, value + size);
    }
  }

  #page(number: bigint): Buffer | undefined {
    return this.#bytes(number * BigInt(this.#pageSize), this.#pageSize);
  }

  /** Undefined where the file has ended before. */
  #bytes(offset: bigint, length: number): Buffer | undefined {
    if (offset + BigInt(length) > this.#size) return undefined;
    const bytes = Buffer.alloc(length);
    return readSync(this.#file, bytes, 0, length, offset) === length ? bytes : undefined;
  }
}

function treeIn(bytes: Buffer, offset: number): Tree {
  const tree = bytes.subarray(offset, offset + TREE_BYTES);
  return {
    flags: tree.readUInt16LE(4),
    depth: tree.readUInt16LE(6),
    pages: tree.readBigUInt64LE(8) + tree.readBigUInt64LE(16) + tree.readBigUInt64LE(24),
    entries: tree.readBigUInt64LE(32),
    root: tree.readBigUInt64LE(40),
  };
}

/**
 * A value of the free tree, as first page and number of pages: its length in numbers, then page numbers; a negative
 * number -n makes the one after it the first of n pages; 0 is an empty place.
 */
function* pagesIn(list: Buffer): Generator<[page: bigint, count: bigint]> {
  const length = Number(list.readBigUInt64LE(0));
  for (let at = 1; at <= length; at++) {
    const entry = list.readBigInt64LE(8 * at);
    if (entry > 0n) yield [entry, 1n];
    else if (entry < 0n) yield [list.readBigInt64LE(8 * ++at), -entry];
  }
}
