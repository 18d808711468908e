import type { Pool } from 'pg';
import type { StatusEvent } from '../domain/vocabulary.js';

/** Who wants to hear what, by destination. */
export type Subscribers = ReadonlyMap<string, Subscriber>;
export interface Subscriber {
  readonly organizationId: string;
  readonly events: readonly StatusEvent[];
  /** Is asked for approvals, too. */
  readonly approvals: boolean;
}

export interface StatusProgress {
  /** Everything up to here has been told. */
  readonly position: bigint;
  readonly subscribers: Subscribers;
}

const LEASE_SECONDS = 15;

/** How far status webhooks have come, and which instance tells them. Both follow from the log: emptied, it is told again. */
export class StatusWebhookStore {
  readonly #pool: Pool;
  readonly #owner: string;

  /** @param owner this instance; the same after a restart, so that it goes on at once */
  constructor(pool: Pool, owner: string) {
    this.#pool = pool;
    this.#owner = owner;
  }

  /** Takes the lease that is this instance's, free or over; undefined when another instance has it. */
  async claim(): Promise<StatusProgress | undefined> {
    const { rows } = await this.#pool.query<{ position: string; subscribers: Record<string, Subscriber> }>(
      `insert into status_webhook_progress as progress (position, subscribers, owner, expires_at)
       values (0, '{}', $1, now() + make_interval(secs => $2))
       on conflict (id) do update set owner = $1, expires_at = excluded.expires_at
         where progress.owner = $1 or progress.expires_at < now()
       returning position, subscribers`,
      [this.#owner, LEASE_SECONDS],
    );
    const [row] = rows;
    if (!row) return undefined;
    return { position: BigInt(row.position), subscribers: new Map(Object.entries(row.subscribers)) };
  }

  /** Also renews the lease. @returns false when it is another instance's by now; nothing is stored then */
  async save({ position, subscribers }: StatusProgress): Promise<boolean> {
    const { rowCount } = await this.#pool.query(
      `update status_webhook_progress
       set position = $2, subscribers = $3, expires_at = now() + make_interval(secs => $4) where owner = $1`,
      [this.#owner, String(position), JSON.stringify(Object.fromEntries(subscribers)), LEASE_SECONDS],
    );
    return rowCount === 1;
  }

  async release(): Promise<void> {
    await this.#pool.query('update status_webhook_progress set expires_at = now() where owner = $1', [this.#owner]);
  }
}
