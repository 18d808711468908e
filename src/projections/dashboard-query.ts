import {
  type Channel,
  ERROR_CATEGORIES,
  type ErrorCategory,
  type Instant,
  type Organizations,
} from '../domain/vocabulary.js';
import { COUNTERS, type Counter } from './dashboard.js';
import type { TenantReads } from './tenant-reads.js';

export const BUCKETS = ['hour', 'day', 'week', 'month'] as const;
export type Bucket = (typeof BUCKETS)[number];

/** One channel in one bucket; see `contributions` for what is counted where. */
export interface DashboardRow {
  /** Its beginning by UTC; weeks begin on Monday. */
  readonly bucket: Instant;
  readonly channel: Channel;
  readonly total: number;
  readonly delivered: number;
  readonly failed: number;
  readonly pending: number;
  readonly averageProcessingMs: number | null;
  readonly averageDeliveryMs: number | null;
  /** From 0 to 1; null when nothing with an SLA has ended. */
  readonly slaCompliance: number | null;
  readonly errorCategories: readonly ErrorCategory[];
  readonly recipients: number;
  readonly highPriority: number;
}

/** What the rows of one channel in one bucket count together. */
export interface BucketSums {
  readonly bucket: Instant;
  readonly channel: Channel;
  readonly sums: Readonly<Record<Counter, number>>;
}

type Stored = { readonly bucket: Date; readonly channel: Channel } & Record<Counter, string>;

/** SQL of the columns that count, for `numbersOf`. */
export const SUMS = COUNTERS.map((counter) => `sum(${counter}) as ${counter}`).join(', ');

export const numbersOf = (stored: Readonly<Record<Counter, string | number>>): Record<Counter, number> =>
  Object.fromEntries(COUNTERS.map((counter) => [counter, Number(stored[counter])])) as Record<Counter, number>;

/** The dashboard read model, asked. */
export class DashboardQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /**
   * Newest bucket first, channels by name. Counted by whole hours of the request: the hours that `from` and `to` lie
   * in count in full, except that of a `to` on the hour.
   */
  async dashboard(
    organizations: Organizations,
    from: Date | Instant,
    to: Date | Instant,
    bucket: Bucket,
  ): Promise<DashboardRow[]> {
    const rows: Stored[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select date_trunc($1, hour, 'UTC') as bucket, channel, ${SUMS}
       from dashboard_hours
       where hour >= date_trunc('hour', $2::timestamptz, 'UTC') and hour < $3
         ${organizations === 'all' ? '' : 'and organization_id = any($4)'}
       group by 1, 2 order by 1 desc, 2`,
        [bucket, from, to, ...(organizations === 'all' ? [] : [organizations])],
      ),
    );
    return rows.map((row) =>
      dashboardRow({ bucket: row.bucket.toISOString(), channel: row.channel, sums: numbersOf(row) }),
    );
  }
}

export function dashboardRow({ bucket, channel, sums }: BucketSums): DashboardRow {
  const count = (counter: Counter): number => sums[counter] ?? 0;
  const ratio = (dividend: Counter, divisor: Counter) =>
    count(divisor) === 0 ? null : count(dividend) / count(divisor);
  return {
    bucket,
    channel,
    total: sums.total,
    delivered: sums.delivered,
    failed: sums.failed,
    pending: sums.pending,
    averageProcessingMs: ratio('processing_ms', 'processing_count'),
    averageDeliveryMs: ratio('delivery_ms', 'delivery_count'),
    slaCompliance: ratio('sla_met', 'sla_counted'),
    errorCategories: ERROR_CATEGORIES.filter(
      (category) => count(`error_${category.toLowerCase() as Lowercase<ErrorCategory>}`) > 0,
    ),
    recipients: sums.recipients,
    highPriority: sums.high_priority,
  };
}
