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

type Sums = { readonly bucket: Date; readonly channel: Channel } & Record<Counter, string>;

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
    const sums = COUNTERS.map((counter) => `sum(${counter}) as ${counter}`).join(', ');
    const rows: Sums[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select date_trunc($1, hour, 'UTC') as bucket, channel, ${sums}
       from dashboard_hours
       where hour >= date_trunc('hour', $2::timestamptz, 'UTC') and hour < $3
         ${organizations === 'all' ? '' : 'and organization_id = any($4)'}
       group by 1, 2 order by 1 desc, 2`,
        [bucket, from, to, ...(organizations === 'all' ? [] : [organizations])],
      ),
    );
    return rows.map(dashboardRow);
  }
}

function dashboardRow({ bucket, channel, ...sums }: Sums): DashboardRow {
  const count = (counter: Counter) => Number((sums as Record<Counter, string>)[counter]);
  const ratio = (dividend: Counter, divisor: Counter) =>
    count(divisor) === 0 ? null : count(dividend) / count(divisor);
  return {
    bucket: bucket.toISOString(),
    channel,
    total: count('total'),
    delivered: count('delivered'),
    failed: count('failed'),
    pending: count('pending'),
    averageProcessingMs: ratio('processing_ms', 'processing_count'),
    averageDeliveryMs: ratio('delivery_ms', 'delivery_count'),
    slaCompliance: ratio('sla_met', 'sla_counted'),
    errorCategories: ERROR_CATEGORIES.filter(
      (category) => count(`error_${category.toLowerCase() as Lowercase<ErrorCategory>}`) > 0,
    ),
    recipients: count('recipients'),
    highPriority: count('high_priority'),
  };
}
