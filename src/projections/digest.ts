import { createHash } from 'node:crypto';
import type { Connection } from './connection.js';
import type { Projection } from './projection.js';

export interface Digest {
  /** The log position whose state the rows show. */
  readonly position: bigint;
  /** Equal for equal rows, in whatever order they lie. */
  readonly sha256: string;
}

/**
 * A fingerprint of all of a projection's rows, to compare a rebuilt read model with the one it replaces. It guards
 * against mistakes, not against forgery: each table gives its number of rows and the sums of two parts of the rows'
 * hashes, which needs no sorting.
 */
export async function digest(connection: Connection, projection: Projection): Promise<Digest> {
  return await connection.transaction(async () => {
    const [checkpoint] = await connection.query<{ position: string }>(
      'select position from projection_checkpoints where name = $1',
      [projection.name],
    );
    const hash = createHash('sha256');
    for (const table of projection.tables) {
      const [sums] = await connection.query<{ text: string }>(
        `select concat_ws(' ', count(*), sum(('x' || substr(h, 1, 16))::bit(64)::bigint),
                          sum(('x' || substr(h, 17, 16))::bit(64)::bigint)) as text
         from (select encode(sha256(convert_to(t::text, 'UTF8')), 'hex') as h from ${table} t) hashes`,
      );
      hash.update(`${table} ${sums?.text}\n`);
    }
    return { position: BigInt(checkpoint?.position ?? 0), sha256: hash.digest('hex') };
  }, 'isolation level repeatable read read only');
}
