import type { Pool, PoolClient } from 'pg';
import type { Suspension, SuspensionList } from '../commands/suspended-deliveries.js';
import type { Instant } from '../domain/vocabulary.js';

/** What the process of a delivery has stumbled over. */
export interface Trouble {
  /** Of the event that it cannot get past. */
  readonly position: bigint;
  readonly revision: number;
  readonly eventType: string;
  readonly organizationId: string;
  readonly error: string;
  /** How often it was tried, the first time included. */
  readonly attempts: number;
  /** Set once it is not tried again by itself. */
  readonly suspendedAt?: Instant;
}

export interface StoredTrouble extends Trouble {
  readonly id: string;
  readonly partition: number;
}

/** Part of a checkpoint: whoever has lost a partition stores nothing about its deliveries. */
export async function storeTroubles(
  client: PoolClient,
  troubled: readonly StoredTrouble[],
  recovered: readonly string[],
): Promise<void> {
  if (troubled.length > 0)
    await client.query(
      `INSERT INTO engine_suspensions
         (delivery_id, partition, organization_id, position, event_type, error, attempts, suspended_at)
       SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::integer[],
         $8::timestamptz[])
       ON CONFLICT (delivery_id) DO UPDATE SET organization_id = excluded.organization_id,
         position = excluded.position, event_type = excluded.event_type, error = excluded.error,
         attempts = excluded.attempts, suspended_at = excluded.suspended_at`,
      [
        troubled.map(({ id }) => id),
        troubled.map(({ partition }) => partition),
        troubled.map(({ organizationId }) => organizationId),
        troubled.map(({ position }) => position.toString()),
        troubled.map(({ eventType }) => eventType),
        troubled.map(({ error }) => error),
        troubled.map(({ attempts }) => attempts),
        troubled.map(({ suspendedAt }) => suspendedAt ?? null),
      ],
    );
  if (recovered.length > 0)
    await client.query('DELETE FROM engine_suspensions WHERE delivery_id = ANY ($1::uuid[])', [recovered]);
}

interface Row {
  readonly id: string;
  readonly organization_id: string;
  readonly position: string;
  readonly event_type: string;
  readonly error: string;
  readonly attempts: number;
  readonly suspended_at: Date;
}

const COLUMNS = 'delivery_id AS id, organization_id, position::text, event_type, error, attempts, suspended_at';

/** What every instance sees of the suspended deliveries of all of them. */
export class SuspensionQueries implements SuspensionList {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async find(id: string): Promise<Suspension | undefined> {
    const { rows } = await this.#pool.query<Row>(
      `SELECT ${COLUMNS} FROM engine_suspensions WHERE delivery_id = $1 AND suspended_at IS NOT NULL`,
      [id],
    );
    return rows.map(suspension)[0];
  }

  async list(
    most: number,
    direction: 'asc' | 'desc',
    after?: { readonly at: Instant; readonly id: string },
  ): Promise<Suspension[]> {
    const { rows } = await this.#pool.query<Row>(
      `SELECT ${COLUMNS} FROM engine_suspensions WHERE suspended_at IS NOT NULL
         AND ($1::timestamptz IS NULL OR (suspended_at, delivery_id) ${direction === 'asc' ? '>' : '<'} ($1, $2::uuid))
       ORDER BY suspended_at ${direction}, delivery_id ${direction} LIMIT $3`,
      [after?.at ?? null, after?.id ?? null, most],
    );
    return rows.map(suspension);
  }

  async count(): Promise<number> {
    const { rows } = await this.#pool.query<{ n: number }>(
      'SELECT count(*)::integer AS n FROM engine_suspensions WHERE suspended_at IS NOT NULL',
    );
    return rows[0]?.n ?? 0;
  }
}

const suspension = ({ organization_id, event_type, suspended_at, position, ...row }: Row): Suspension => ({
  ...row,
  organizationId: organization_id,
  position: BigInt(position),
  eventType: event_type,
  suspendedAt: suspended_at.toISOString(),
});
