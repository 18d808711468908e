import type { Pool, PoolClient } from 'pg';
import type { Priority } from '../domain/vocabulary.js';
import { type StoredTrouble, storeTroubles } from './suspension-store.js';

/** How long a partition stays its owner's without a renewal, by the database's clock. */
export const LEASE_TTL_SECONDS = 10;
export const PARTITIONS = 16;

/** The partition of a delivery: the first hex digit of its id. */
export const partitionOf = (deliveryId: string): number => Number.parseInt(deliveryId[0] as string, 16);

/** As stored: what is urgent sorts first. */
const RANKS: Readonly<Record<Priority, number>> = { URGENT: 0, HIGH: 1, NORMAL: 2, LOW: 3 };

/** A partition that was taken, and how far its last owner had come. */
export interface Claim {
  readonly partition: number;
  /** One more than its last owner's: whoever still believes in an older one stores nothing. */
  readonly epoch: bigint;
  readonly position: bigint;
}

export interface OpenDelivery {
  readonly id: string;
  readonly priority: Priority;
  /** When the engine must look at it, undefined when only an event can bring it on. */
  readonly dueAt: Date | undefined;
  readonly awaits: readonly string[];
}

export interface Held {
  readonly partition: number;
  readonly epoch: bigint;
  /** Up to where this owner has folded the log. */
  readonly position: bigint;
}

export interface Checkpoint {
  readonly held: readonly Held[];
  readonly open: readonly OpenDelivery[];
  readonly closed: readonly string[];
  /** Deliveries whose process has thrown, and those that are out of it. */
  readonly troubled?: readonly StoredTrouble[];
  readonly recovered?: readonly string[];
}

/** Where a page of due deliveries ended; the next page begins after it. */
export interface DueCursor {
  readonly rank: number;
  readonly dueAt: Date;
  readonly id: string;
}

export interface DuePage {
  readonly ids: readonly string[];
  /** Undefined when there is no more. */
  readonly next: DueCursor | undefined;
}

/** The engine's memory between runs: leases, log positions, deliveries still open. All of it follows from the log. */
export class EngineStore {
  readonly #pool: Pool;
  readonly #owner: string;
  #run: string | undefined;

  /** @param owner this instance; the same after a restart, so that it gets its own partitions back at once */
  constructor(pool: Pool, owner: string) {
    this.#pool = pool;
    this.#owner = owner;
  }

  /** The database's clock, Unix milliseconds. Nothing else is asked or stored, so that the answer is there at once. */
  async nowMs(): Promise<number> {
    const { rows } = await this.#pool.query<{ now_ms: number }>(
      'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now_ms',
    );
    return rows[0]?.now_ms as number;
  }

  /**
   * Says that this instance is alive, and finds out who else is.
   *
   * @returns how many are alive, this one included
   */
  async census(): Promise<number> {
    const { rows } = await this.#pool.query<{ instances: number }>(
      `WITH me AS (
         INSERT INTO engine_instances (instance, seen_at) VALUES ($1, now())
         ON CONFLICT (instance) DO UPDATE SET seen_at = now()),
       gone AS (DELETE FROM engine_instances WHERE seen_at < now() - interval '1 day')
       SELECT 1 + count(*)::integer AS instances
       FROM engine_instances WHERE instance <> $1 AND seen_at > now() - make_interval(secs => $2)`,
      [this.#owner, LEASE_TTL_SECONDS],
    );
    return rows[0]?.instances ?? 1;
  }

  /** Says that this instance will soon be gone, so that the others share what it had. */
  async leave(): Promise<void> {
    await this.#pool.query('DELETE FROM engine_instances WHERE instance = $1', [this.#owner]);
  }

  /**
   * Takes partitions that are free, expired or this owner's from before; `takeOver` takes them from anybody (a lock has
   * proved that no other instance can be alive), but never what a later run of the same owner has. One whose rows somebody has deleted begins again with the log.
   *
   * @param mine those it holds already
   */
  async claim(most: number, mine: readonly number[], takeOver: boolean): Promise<Claim[]> {
    await this.#pool.query(
      `INSERT INTO engine_partitions (partition, owner, epoch, expires_at, position)
       SELECT p, $1, 0, now(), 0 FROM generate_series(0, $2 - 1) AS p ON CONFLICT DO NOTHING`,
      [this.#owner, PARTITIONS],
    );
    const { rows } = await this.#pool.query<{ partition: number; epoch: string; position: string }>(
      `WITH free AS (
         SELECT partition FROM engine_partitions
         WHERE (CASE WHEN owner = $1 THEN run <= $6 ELSE $3 END OR expires_at <= now()) AND partition <> ALL ($4::smallint[])
         ORDER BY (owner = $1) DESC, partition LIMIT $5 FOR UPDATE SKIP LOCKED),
       emptied AS (
         INSERT INTO engine_deliveries (delivery_id, partition) SELECT ${MARK}, partition FROM free
         ON CONFLICT DO NOTHING RETURNING partition),
       others AS (
         DELETE FROM engine_deliveries WHERE partition IN (SELECT partition FROM emptied))
       UPDATE engine_partitions AS held
       SET owner = $1, run = $6, epoch = held.epoch + 1, expires_at = now() + make_interval(secs => $2),
         position = CASE WHEN held.partition IN (SELECT partition FROM emptied) THEN 0 ELSE held.position END
       FROM free WHERE held.partition = free.partition
       RETURNING held.partition, held.epoch::text, held.position::text`,
      [this.#owner, LEASE_TTL_SECONDS, takeOver, mine, most, await this.#runNumber()],
    );
    return rows.map(({ partition, epoch, position }) => ({
      partition,
      epoch: BigInt(epoch),
      position: BigInt(position),
    }));
  }

  /**
   * Renews the leases and stores what has changed, all or nothing.
   *
   * @returns the partitions that another instance has taken meanwhile; when there are any, nothing was stored
   */
  async save({ held, open, closed, troubled = [], recovered = [] }: Checkpoint): Promise<number[]> {
    const client = await this.#pool.connect();
    try {
      await client.query('BEGIN');
      const lost = await this.#renew(client, held);
      if (lost.length > 0) {
        await client.query('ROLLBACK');
        return lost;
      }
      if (open.length > 0)
        await client.query(
          `INSERT INTO engine_deliveries (delivery_id, partition, priority, due_at, awaits)
           SELECT id, partition, priority, due_at,
             coalesce((SELECT array_agg(each::uuid) FROM jsonb_array_elements_text(awaits) AS each), '{}')
           FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::timestamptz[], $5::jsonb[])
             AS row (id, partition, priority, due_at, awaits)
           ON CONFLICT (delivery_id) DO UPDATE SET due_at = excluded.due_at, awaits = excluded.awaits`,
          [
            open.map(({ id }) => id),
            open.map(({ id }) => partitionOf(id)),
            open.map(({ priority }) => RANKS[priority]),
            open.map(({ dueAt }) => dueAt ?? null),
            open.map(({ awaits }) => JSON.stringify(awaits)),
          ],
        );
      if (closed.length > 0)
        await client.query('DELETE FROM engine_deliveries WHERE delivery_id = ANY ($1::uuid[])', [closed]);
      await storeTroubles(client, troubled, recovered);
      await client.query('COMMIT');
      return [];
    } catch (error) {
      await client.query('ROLLBACK').catch(() => undefined);
      throw error;
    } finally {
      client.release();
    }
  }

  /** False when somebody has emptied the table of deliveries since the partitions were taken. */
  async isWhole(partitions: readonly number[]): Promise<boolean> {
    const { rows } = await this.#pool.query<{ marks: number }>(
      `SELECT count(*)::integer AS marks FROM engine_deliveries
       WHERE delivery_id IN (SELECT ${MARK} FROM unnest($1::smallint[]) AS mine (partition))`,
      [partitions],
    );
    return rows[0]?.marks === partitions.length;
  }

  /** Puts partitions back to the beginning of the log, and deletes what was stored since the table was emptied. */
  async restart(held: readonly Held[]): Promise<void> {
    await this.#pool.query(
      `WITH mine AS (
         UPDATE engine_partitions AS held SET position = 0
         FROM unnest($1::smallint[], $2::bigint[]) AS mine (partition, epoch)
         WHERE held.partition = mine.partition AND held.epoch = mine.epoch RETURNING held.partition),
       others AS (
         DELETE FROM engine_deliveries WHERE partition IN (SELECT partition FROM mine) AND delivery_id <> ${MARK})
       INSERT INTO engine_deliveries (delivery_id, partition) SELECT ${MARK}, partition FROM mine ON CONFLICT DO NOTHING`,
      [held.map(({ partition }) => partition), held.map(({ epoch }) => epoch.toString())],
    );
  }

  /** A page of what was due by then, the urgent first, and within one priority the soonest. */
  async due(partitions: readonly number[], until: Date, after: DueCursor | undefined, most: number): Promise<DuePage> {
    const { rows } = await this.#pool.query<{ id: string; rank: number; due_at: Date }>(
      `SELECT delivery_id AS id, priority AS rank, due_at FROM engine_deliveries
       WHERE partition = ANY ($1::smallint[]) AND due_at <= $2 AND (priority, due_at, delivery_id) > ($3, $4, $5)
       ORDER BY priority, due_at, delivery_id LIMIT $6`,
      [partitions, until, after?.rank ?? -1, after?.dueAt ?? new Date(0), after?.id ?? NIL, most],
    );
    const last = rows.length === most ? rows.at(-1) : undefined;
    return {
      ids: rows.map(({ id }) => id),
      next: last && { rank: last.rank, dueAt: last.due_at, id: last.id },
    };
  }

  /** A page of what comes due in a span of time (`after` exclusive, `until` inclusive), the soonest first. */
  async upcoming(
    partitions: readonly number[],
    after: Date,
    until: Date,
    most: number,
  ): Promise<{ readonly ids: readonly string[]; readonly reached: Date }> {
    const { rows } = await this.#pool.query<{ id: string; due_at: Date }>(
      `SELECT delivery_id AS id, due_at FROM engine_deliveries
       WHERE partition = ANY ($1::smallint[]) AND due_at > $2 AND due_at <= $3
       ORDER BY due_at FETCH FIRST $4 ROWS WITH TIES`,
      [partitions, after, until, most],
    );
    return { ids: rows.map(({ id }) => id), reached: rows.length < most ? until : (rows.at(-1)?.due_at ?? until) };
  }

  /** Deliveries that wait for others, whenever they are due. */
  async waiting(partitions: readonly number[]): Promise<string[]> {
    const { rows } = await this.#pool.query<{ id: string }>(
      `SELECT delivery_id AS id FROM engine_deliveries WHERE partition = ANY ($1::smallint[]) AND awaits <> '{}'`,
      [partitions],
    );
    return rows.map(({ id }) => id);
  }

  /** Deliveries whose process has thrown: whoever takes them tries again. */
  async troubled(partitions: readonly number[]): Promise<string[]> {
    const { rows } = await this.#pool.query<{ id: string }>(
      'SELECT delivery_id AS id FROM engine_suspensions WHERE partition = ANY ($1::smallint[])',
      [partitions],
    );
    return rows.map(({ id }) => id);
  }

  /** Who waits for these deliveries, in partitions that are not this instance's. */
  async waitersElsewhere(
    dependencies: readonly string[],
    mine: readonly number[],
  ): Promise<{ waiter: string; dependency: string }[]> {
    const { rows } = await this.#pool.query<{ waiter: string; dependency: string }>(
      `SELECT delivery_id AS waiter, dependency FROM engine_deliveries, unnest(awaits) AS dependency
       WHERE awaits <> '{}' AND awaits && $1::uuid[] AND dependency = ANY ($1::uuid[])
         AND partition <> ALL ($2::smallint[])`,
      [dependencies, mine],
    );
    return rows;
  }

  /** Gives partitions back, so that another instance need not wait for them to expire. */
  async release(partitions: readonly number[]): Promise<void> {
    await this.#pool.query(
      'UPDATE engine_partitions SET expires_at = now() WHERE owner = $1 AND partition = ANY ($2::smallint[])',
      [this.#owner, partitions],
    );
  }

  /** The number of this run of the instance, greater than that of each run before. */
  async #runNumber(): Promise<string> {
    if (this.#run === undefined) {
      const { rows } = await this.#pool.query<{ run: string }>(`SELECT nextval('engine_runs')::text AS run`);
      this.#run = rows[0]?.run;
    }
    return this.#run as string;
  }

  async #renew(client: PoolClient, held: readonly Held[]): Promise<number[]> {
    const { rows } = await client.query<{ partition: number }>(
      `UPDATE engine_partitions AS held
       SET position = mine.position, expires_at = now() + make_interval(secs => $4)
       FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS mine (partition, epoch, position)
       WHERE held.partition = mine.partition AND held.epoch = mine.epoch
       RETURNING held.partition`,
      [
        held.map(({ partition }) => partition),
        held.map(({ epoch }) => epoch.toString()),
        held.map(({ position }) => position.toString()),
        LEASE_TTL_SECONDS,
      ],
    );
    const renewed = new Set(rows.map(({ partition }) => partition));
    return held.flatMap(({ partition }) => (renewed.has(partition) ? [] : [partition]));
  }
}

/** The id of a row that each partition has in the table of deliveries, and that is missing once somebody has emptied it. */
const MARK = `(to_hex(partition::integer) || '0000000-0000-0000-0000-000000000000')::uuid`;

const NIL = '00000000-0000-0000-0000-000000000000';
