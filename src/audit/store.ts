import type pg from 'pg';
import { HASH_BYTES, nodeHash, type Subtrees } from './merkle.js';
import {
  CHAIN_START,
  type EntryRow,
  emptyTree,
  hashAt,
  type NodeRow,
  ROW_ENTRIES,
  ROW_LEVELS,
  type TreeState,
} from './tree-builder.js';

/** A pool, or one connection. */
export type Sql = Pick<pg.ClientBase, 'query'>;

/** What is stored does not fit together: somebody else has changed it. */
export class AuditDamaged extends Error {
  override name = 'AuditDamaged';
}

/** Another instance builds the tree, or the tables have changed under this one. */
export class AuditSuperseded extends Error {
  override name = 'AuditSuperseded';
}

/**
 * Makes this instance the one that builds the tree, for `leaseMs` of the database's clock, if no other one is.
 *
 * @returns its epoch, which every commit names
 */
export async function claimTree(sql: Sql, owner: string, leaseMs: number): Promise<bigint | undefined> {
  const { rows } = await sql.query<{ epoch: string }>(
    `insert into audit_writer as held (owner, epoch, expires_at)
     values ($1, 1, clock_timestamp() + $2 * interval '1 ms')
     on conflict (only_one) do update
       set owner = excluded.owner, epoch = held.epoch + 1, expires_at = excluded.expires_at
       where held.owner = excluded.owner or held.expires_at < clock_timestamp()
     returning epoch`,
    [owner, leaseMs],
  );
  return rows[0] && BigInt(rows[0].epoch);
}

/** Lets another instance have the tree at once. */
export const releaseTree = async (sql: Sql, epoch: bigint): Promise<void> =>
  void (await sql.query('update audit_writer set expires_at = clock_timestamp() where epoch = $1', [String(epoch)]));

export interface Commit {
  readonly log: string;
  readonly epoch: bigint;
  readonly leaseMs: number;
  readonly from: number;
  readonly to: Pick<TreeState, 'size' | 'position' | 'chain'>;
  readonly entries: readonly EntryRow[];
  readonly nodes: readonly NodeRow[];
}

/**
 * Stores rows and moves the tree from exactly where it was, in one statement, and so all or nothing; renews the lease.
 *
 * @throws AuditSuperseded when the lease is another's, or the tree is elsewhere; nothing is stored then
 */
export async function commitTree(sql: Sql, { log, epoch, leaseMs, from, to, entries, nodes }: Commit): Promise<void> {
  const { rows } = await sql.query({
    name: 'audit_commit',
    text: `
      with held as (
        update audit_writer set expires_at = clock_timestamp() + $2 * interval '1 ms' where epoch = $1 returning 1),
      moved as (
        update audit_trees set size = $5, position = $6, chain = $7
        where log = $3 and size = $4 and exists (select from held) returning 1),
      written as (
        insert into audit_entries (log, row_number, positions, hashes, chain, keys, first_at, last_at)
        select $3, u.row_number, u.positions, u.hashes, u.chain,
          array(select jsonb_array_elements_text(u.keys::jsonb)), u.first_at, u.last_at
        from unnest($8::bigint[], $9::bytea[], $10::bytea[], $11::bytea[], $12::text[], $13::timestamptz[],
          $14::timestamptz[]) as u(row_number, positions, hashes, chain, keys, first_at, last_at)
        where exists (select from moved)
        on conflict (log, row_number) do update set positions = excluded.positions, hashes = excluded.hashes,
          chain = excluded.chain, keys = excluded.keys, first_at = excluded.first_at, last_at = excluded.last_at),
      joined as (
        insert into audit_nodes (log, level, row_number, hashes)
        select $3, u.level, u.row_number, u.hashes
        from unnest($15::smallint[], $16::bigint[], $17::bytea[]) as u(level, row_number, hashes)
        where exists (select from moved)
        on conflict (log, level, row_number) do update set hashes = excluded.hashes)
      select 1 from moved`,
    values: [
      ...[String(epoch), leaseMs, log, from, to.size, String(to.position), to.chain],
      ...[entries.map(({ row }) => row), entries.map(({ positions }) => positions)],
      ...[entries.map(({ hashes }) => hashes), entries.map(({ chain }) => chain)],
      entries.map(({ keys }) => JSON.stringify(keys)),
      ...[entries.map(({ firstAt }) => firstAt), entries.map(({ lastAt }) => lastAt)],
      ...[nodes.map(({ level }) => level), nodes.map(({ row }) => row), nodes.map(({ hashes }) => hashes)],
    ],
  });
  if (rows.length === 0)
    throw new AuditSuperseded('another instance builds the audit trail, or its tables have changed');
}

export interface TreeHead {
  readonly size: number;
  readonly position: bigint;
  readonly chain: Buffer;
}

/** Undefined when nothing is stored for this log yet. */
export async function readHead(sql: Sql, log: string): Promise<TreeHead | undefined> {
  const { rows } = await sql.query<{ size: string; position: string; chain: Buffer }>(
    'select size, position, chain from audit_trees where log = $1',
    [log],
  );
  return rows[0] && { size: Number(rows[0].size), position: BigInt(rows[0].position), chain: rows[0].chain };
}

export interface StoredEntryRow {
  readonly row_number: string;
  readonly positions: Buffer;
  readonly hashes: Buffer;
  readonly chain: Buffer;
  readonly keys: string[];
  readonly first_at: Date;
  readonly last_at: Date;
}

export const ENTRY_COLUMNS = 'row_number, positions, hashes, chain, keys, first_at, last_at';

/** Rows of entries, in order. @param to exclusive */
export async function readEntryRows(sql: Sql, log: string, from: number, to: number): Promise<EntryRow[]> {
  const { rows } = await sql.query<StoredEntryRow>(
    `select ${ENTRY_COLUMNS} from audit_entries where log = $1 and row_number >= $2 and row_number < $3
     order by row_number`,
    [log, from, to],
  );
  return rows.map(entryRow);
}

export const entryRow = (row: StoredEntryRow): EntryRow => ({
  row: Number(row.row_number),
  ...{ positions: row.positions, hashes: row.hashes, chain: row.chain, keys: row.keys },
  ...{ firstAt: row.first_at.toISOString(), lastAt: row.last_at.toISOString() },
});

export async function readNodeRows(sql: Sql, log: string, level: number, from: number, to: number): Promise<NodeRow[]> {
  const { rows } = await sql.query<{ row_number: string; hashes: Buffer }>(
    `select row_number, hashes from audit_nodes where log = $1 and level = $2 and row_number >= $3 and row_number < $4
     order by row_number`,
    [log, level, from, to],
  );
  return rows.map(({ row_number, hashes }) => ({ level, row: Number(row_number), hashes }));
}

/** How many levels of nodes a tree has. */
export function nodeLevels(size: number): number {
  let levels = 0;
  while (size >= ROW_ENTRIES ** (levels + 1)) levels++;
  return levels;
}

/** Where to go on. @throws AuditDamaged when rows are missing or do not fit together */
export async function loadTree(sql: Sql, log: string): Promise<TreeState> {
  await sql.query('insert into audit_trees (log, size, position, chain) values ($1, 0, 0, $2) on conflict do nothing', [
    log,
    CHAIN_START,
  ]);
  const head = await readHead(sql, log);
  if (!head || head.size === 0) return emptyTree;
  const { size } = head;
  const row = Math.floor(size / ROW_ENTRIES);
  const [entries] = size % ROW_ENTRIES === 0 ? [] : await readEntryRows(sql, log, row, row + 1);
  if (size % ROW_ENTRIES > 0 && entries?.hashes.length !== (size % ROW_ENTRIES) * HASH_BYTES)
    throw new AuditDamaged(`the audit trail has ${size} entries, but its last row has not`);
  const nodes: NodeRow[] = [];
  for (let level = 1; level <= nodeLevels(size); level++) {
    const at = Math.floor(size / ROW_ENTRIES ** (level + 1));
    nodes.push(...(await readNodeRows(sql, log, level, at, at + 1)));
  }
  const edge: (Buffer | undefined)[] = [];
  const subtrees = storedSubtrees(sql, log);
  for (let level = 0; 2 ** level <= size; level++)
    if (Math.floor(size / 2 ** level) % 2 === 1) edge[level] = await subtrees(level, Math.floor(size / 2 ** level) - 1);
  return { ...head, edge, entries, nodes };
}

/** Rows that are kept for one question at most. */
const MAX_ROWS = 64;

/** Hashes of complete subtrees from what is stored; for one question, whose rows it remembers. */
export function storedSubtrees(sql: Sql, log: string): Subtrees {
  const rows = new Map<string, Promise<Buffer>>();
  const rowOf = (level: number, row: number): Promise<Buffer> => {
    const name = `${level}/${row}`;
    const known = rows.get(name);
    if (known) return known;
    if (rows.size >= MAX_ROWS) rows.delete(rows.keys().next().value as string);
    const found = readHashes(sql, log, level, row);
    rows.set(name, found);
    return found;
  };
  return async (level, index) => {
    const rowLevel = Math.floor(level / ROW_LEVELS);
    const width = 2 ** (level % ROW_LEVELS);
    const first = index * width;
    const hashes = await rowOf(rowLevel, Math.floor(first / ROW_ENTRIES));
    const at = first % ROW_ENTRIES;
    if (hashes.length < (at + width) * HASH_BYTES)
      throw new AuditDamaged(`the audit trail lacks entries from ${(first * ROW_ENTRIES ** rowLevel).toString()} on`);
    return completeRoot(hashes, at, width);
  };
}

async function readHashes(sql: Sql, log: string, level: number, row: number): Promise<Buffer> {
  const [found] =
    level === 0 ? await readEntryRows(sql, log, row, row + 1) : await readNodeRows(sql, log, level, row, row + 1);
  return found?.hashes ?? Buffer.alloc(0);
}

/** Of as many hashes as a power of two. */
function completeRoot(hashes: Buffer, at: number, width: number): Buffer {
  if (width === 1) return hashAt(hashes, at);
  return nodeHash(completeRoot(hashes, at, width / 2), completeRoot(hashes, at + width / 2, width / 2));
}
