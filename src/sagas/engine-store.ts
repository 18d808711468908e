import type { Pool, PoolClient } from 'pg';

/** How long a partition stays its owner's without a renewal, by the database's clock. */
const LEASE_TTL_SECONDS = 10;
export const PARTITIONS = 16;

/** The partition of a delivery: the first hex digit of its id. */
export const partitionOf = (deliveryId: string): number => Number.parseInt(deliveryId[0] as string, 16);

export interface OpenDelivery {
  readonly id: string;
  /** When the engine must look at it, undefined when only an event can bring it on. */
  readonly dueAt: Date | undefined;
  readonly awaits: readonly string[];
}

export interface Checkpoint {
  readonly position: bigint;
  readonly open: readonly OpenDelivery[];
  readonly closed: readonly string[];
}

/** The engine's memory between runs: leases, log position, deliveries still open. All of it follows from the log. */
export class EngineStore {
  readonly #pool: Pool;
  readonly #owner: string;
  #epochs: { partitions: number[]; epochs: string[] } = { partitions: [], epochs: [] };

  constructor(pool: Pool, owner: string) {
    this.#pool = pool;
    this.#owner = owner;
  }

  /**
   * Takes all partitions that are free, expired or already this owner's; `takeOver` takes them from anybody (the data
   * directory's lock has proved that no other instance can be alive).
   *
   * @returns the position from which the log must be folded, or undefined when somebody else holds a partition
   */
  async claim(takeOver: boolean): Promise<bigint | undefined> {
    const { rows } = await this.#pool.query<{ partition: number; epoch: string; position: string }>(
      `INSERT INTO engine_partitions AS held (partition, owner, epoch, expires_at, position)
       SELECT p, $1, 1, now() + make_interval(secs => $2), 0 FROM generate_series(0, $3 - 1) AS p
       ON CONFLICT (partition) DO UPDATE
         SET owner = $1, epoch = held.epoch + 1, expires_at = now() + make_interval(secs => $2)
         WHERE $4 OR held.owner = $1 OR held.expires_at < now()
       RETURNING partition, epoch::text, position::text`,
      [this.#owner, LEASE_TTL_SECONDS, PARTITIONS, takeOver],
    );
    if (rows.length < PARTITIONS) {
      await this.#free(rows.map(({ partition }) => partition));
      return undefined;
    }
    this.#epochs = { partitions: rows.map((row) => row.partition), epochs: rows.map((row) => row.epoch) };
    return rows.reduce(
      (least, row) => (BigInt(row.position) < least ? BigInt(row.position) : least),
      BigInt(rows[0]?.position ?? 0),
    );
  }

  /** @throws LeaseLost when another instance has taken a partition meanwhile; then nothing was stored */
  async save({ position, open, closed }: Checkpoint): Promise<void> {
    const client = await this.#pool.connect();
    try {
      await client.query('BEGIN');
      await this.#renew(client, position);
      if (open.length > 0)
        await client.query(
          `INSERT INTO engine_deliveries (delivery_id, partition, due_at, awaits)
           SELECT id, partition, due_at, coalesce((SELECT array_agg(each::uuid) FROM jsonb_array_elements_text(awaits) AS each), '{}')
           FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::jsonb[]) AS row (id, partition, due_at, awaits)
           ON CONFLICT (delivery_id) DO UPDATE SET due_at = excluded.due_at, awaits = excluded.awaits`,
          [
            open.map(({ id }) => id),
            open.map(({ id }) => partitionOf(id)),
            open.map(({ dueAt }) => dueAt ?? null),
            open.map(({ awaits }) => JSON.stringify(awaits)),
          ],
        );
      if (closed.length > 0)
        await client.query('DELETE FROM engine_deliveries WHERE delivery_id = ANY ($1::uuid[])', [closed]);
      await client.query('COMMIT');
    } catch (error) {
      await client.query('ROLLBACK').catch(() => undefined);
      throw error;
    } finally {
      client.release();
    }
  }

  /** Deliveries the engine must have in memory: due by then, or waiting for others. */
  async openUntil(until: Date): Promise<string[]> {
    const { rows } = await this.#pool.query<{ id: string }>(
      `SELECT delivery_id AS id FROM engine_deliveries WHERE due_at <= $1 OR awaits <> '{}'`,
      [until],
    );
    return rows.map(({ id }) => id);
  }

  /** Deliveries that come due in a span of time (`after` exclusive, `until` inclusive), soonest first. */
  async dueBetween(after: Date, until: Date): Promise<string[]> {
    const { rows } = await this.#pool.query<{ id: string }>(
      'SELECT delivery_id AS id FROM engine_deliveries WHERE due_at > $1 AND due_at <= $2 ORDER BY due_at',
      [after, until],
    );
    return rows.map(({ id }) => id);
  }

  /** Gives the partitions back, so that another instance need not wait for them to expire. */
  async release(): Promise<void> {
    await this.#free(this.#epochs.partitions);
  }

  async #renew(client: PoolClient, position: bigint): Promise<void> {
    const { rowCount } = await client.query(
      `UPDATE engine_partitions AS held
       SET position = $3, expires_at = now() + make_interval(secs => $4)
       FROM unnest($1::smallint[], $2::bigint[]) AS mine (partition, epoch)
       WHERE held.partition = mine.partition AND held.epoch = mine.epoch`,
      [this.#epochs.partitions, this.#epochs.epochs, position.toString(), LEASE_TTL_SECONDS],
    );
    if (rowCount !== PARTITIONS) throw new LeaseLost('another instance has taken over deliveries of this one');
  }

  async #free(partitions: readonly number[]): Promise<void> {
    await this.#pool.query(
      'UPDATE engine_partitions SET expires_at = now() WHERE owner = $1 AND partition = ANY ($2::smallint[])',
      [this.#owner, partitions],
    );
  }
}

export class LeaseLost extends Error {
  override name = 'LeaseLost';
}
