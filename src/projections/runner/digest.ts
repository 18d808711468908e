import { createHash } from 'node:crypto';
import type { Projection } from '../projection.js';
import type { Connection } from './connection.js';
import { keyOf, type Role, schemaOf } from './member.js';

export interface Digest {
  /** The log position whose state the rows show. */
  readonly position: bigint;
  /** Equal for equal rows, in whatever order they lie. */
  readonly sha256: string;
}

/**
 * A fingerprint of all of a projection's rows, to compare a rebuilt read model with the one it replaces. It guards
 * against mistakes, not against forgery: each table gives its number of rows and two sums of hashes of its rows, which
 * needs no sorting. Rows are hashed as they are stored (PostgreSQL 14 and later): made into text first, which is four
 * times as much work, they would be compared no better.
 */
export async function digest(connection: Connection, projection: Projection, role: Role = 'live'): Promise<Digest> {
  return await connection.transaction(async () => await digestNow(connection, projection, role), SNAPSHOT);
}

/** Every statement of such a transaction sees the database at one moment: that of the first. */
export const SNAPSHOT = 'isolation level repeatable read read only';

/** Part of the caller's transaction. */
export async function digestNow(connection: Connection, projection: Projection, role: Role): Promise<Digest> {
  const [checkpoint] = await connection.query<{ position: string }>(
    'select position from projection_checkpoints where name = $1',
    [keyOf(projection.name, role)],
  );
  const hash = createHash('sha256');
  for (const table of projection.tables) {
    const [sums] = await connection.query<{ text: string }>(
      `select concat_ws(' ', count(*), sum(hash_record_extended(t, 0)), sum(hash_record_extended(t, 1))) as text
         from ${role === 'live' ? '' : `${schemaOf(projection.name, role)}.`}${table} t`,
    );
    hash.update(`${table} ${sums?.text}\n`);
  }
  return { position: BigInt(checkpoint?.position ?? 0), sha256: hash.digest('hex') };
}
