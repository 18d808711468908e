import type { DataSource } from 'typeorm';
import type { Instant } from '../domain/vocabulary.js';

/** An event that a projection lacks, and why. */
export interface ParkedEvent {
  readonly projection: string;
  readonly position: string;
  readonly stream: string;
  readonly type: string;
  readonly error: string;
  /** How often it was tried. */
  readonly attempts: number;
  readonly parkedAt: Instant;
  /** When a person decided that the projection passes over it. */
  readonly skippedAt: Instant | null;
  readonly skippedBy: string | null;
  readonly skipReason: string | null;
}

/** Parked events, in the order of the log. */
export class ParkedEvents {
  readonly #database: DataSource;

  constructor(database: DataSource) {
    this.#database = database;
  }

  /** @param after the position of the last one already seen; default from the beginning */
  async list(projection: string, most: number, after = 0n): Promise<ParkedEvent[]> {
    const rows: (Omit<ParkedEvent, 'parkedAt' | 'skippedAt'> & { parkedAt: Date; skippedAt: Date | null })[] =
      await this.#database.query(
        `select projection, position::text, stream, type, error, attempts, parked_at as "parkedAt",
                skipped_at as "skippedAt", skipped_by as "skippedBy", skip_reason as "skipReason"
         from parked_events where projection = $1 and position > $2 order by parked_events.position limit $3`,
        [projection, String(after), most],
      );
    return rows.map((row) => ({
      ...row,
      parkedAt: row.parkedAt.toISOString(),
      skippedAt: row.skippedAt?.toISOString() ?? null,
    }));
  }
}
