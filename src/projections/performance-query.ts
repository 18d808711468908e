import {
  type Channel,
  ERROR_CATEGORIES,
  type Instant,
  type Organizations,
  type Priority,
} from '../domain/vocabulary.js';
import { Conditions } from './legs-query.js';
import type { TenantReads } from './tenant-reads.js';

/** Service levels of the legs requested in a span of time, by organization, channel and priority. */
export interface SlaRow {
  readonly organizationId: string;
  readonly channel: Channel;
  readonly priority: Priority;
  readonly total: number;
  /** Those with a due time that are settled, or overdue; of them `met` were accepted in time. */
  readonly counted: number;
  readonly met: number;
  /** From 0 to 1; null when nothing counts yet. */
  readonly compliance: number | null;
  /** Settled or not, and not accepted when they were due. */
  readonly breached: number;
  /** Open, and not yet due. */
  readonly open: number;
  /** From request to acceptance, of those that were accepted. */
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
}

/** Attempts begun on one day (UTC) with one provider on one channel. */
export interface ProviderPerformanceRow {
  readonly date: Instant;
  readonly provider: string;
  readonly channel: Channel;
  /** Those with an outcome. */
  readonly attempts: number;
  readonly succeeded: number;
  readonly failed: number;
  /** From 0 to 1; null before the first outcome. */
  readonly successRate: number | null;
  readonly averageMs: number | null;
  readonly p95Ms: number | null;
  /** How many failures of each category. */
  readonly errors: Readonly<Record<string, number>>;
}

/** Legs requested on one day (UTC) by channel and provider (seed 1, delivery_performance_summary). */
export interface DeliveryPerformanceRow {
  readonly date: Instant;
  readonly channel: Channel;
  /** Null before the first attempt. */
  readonly provider: string | null;
  readonly total: number;
  readonly successful: number;
  readonly averageDeliveryMs: number | null;
}

/** Legs requested on one day (UTC) over one channel: what became of them, and what people did with them. */
export interface EngagementRow {
  readonly date: Instant;
  readonly channel: Channel;
  /** Accepted by a provider. */
  readonly sent: number;
  readonly bounced: number;
  /** Legs that were opened at least once, and how often all of them were; as with clicks. */
  readonly opened: number;
  readonly opens: number;
  readonly clicked: number;
  readonly clicks: number;
  readonly complaints: number;
  readonly optOuts: number;
  /** Of those sent; null when there are none. */
  readonly openRate: number | null;
  readonly clickRate: number | null;
  readonly bounceRate: number | null;
  readonly complaintRate: number | null;
}

const DELIVERED = `status in ('SENT', 'DELIVERED')`;
const milliseconds = (later: string, earlier: string) => `extract(epoch from ${later} - ${earlier}) * 1000`;
const percentile = (share: number, expression: string, name: string) =>
  `percentile_cont(${share}) within group (order by ${expression}) as "${name}"`;

type Span = { readonly from: Date | Instant; readonly to: Date | Instant };

/** How well it goes: aggregates over spans of time, made when they are asked for. */
export class PerformanceQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** By organization, channel and priority. */
  async sla(organizations: Organizations, span: Span): Promise<SlaRow[]> {
    const where = spanned('requested_at', organizations, span);
    const took = `case when ${DELIVERED} then ${milliseconds('sent_at', 'requested_at')} end`;
    const late = `due_at < coalesce(case when ${DELIVERED} then sent_at end, now())`;
    const isSettled = `status in ('SENT', 'DELIVERED', 'FAILED', 'BOUNCED', 'REJECTED', 'EXPIRED')`;
    const met = `${DELIVERED} and sent_at <= due_at`;
    const rows: Record<string, string>[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select organization_id as "organizationId", channel, priority, count(*) as total,
         count(*) filter (where due_at is not null and status <> 'CANCELLED' and (${isSettled} or ${late})) as counted,
         count(*) filter (where ${met}) as met,
         count(*) filter (where status <> 'CANCELLED' and due_at is not null and not (${met})
                            and (${isSettled} or ${late})) as breached,
         count(*) filter (where due_at >= now() and not ${isSettled} and status <> 'CANCELLED') as open,
         ${percentile(0.5, took, 'p50Ms')}, ${percentile(0.95, took, 'p95Ms')}, ${percentile(0.99, took, 'p99Ms')}
       from legs where ${where.text()} group by 1, 2, 3 order by 1, 2, 3`,
        where.values,
      ),
    );
    return rows.map(({ organizationId, channel, priority, p50Ms, p95Ms, p99Ms, ...counts }) => {
      const [total, counted, met, breached, open] = ['total', 'counted', 'met', 'breached', 'open'].map((name) =>
        Number(counts[name]),
      ) as [number, number, number, number, number];
      const compliance = counted === 0 ? null : met / counted;
      return {
        organizationId,
        channel,
        priority,
        total,
        counted,
        met,
        compliance,
        breached,
        open,
        p50Ms,
        p95Ms,
        p99Ms,
      };
    }) as unknown as SlaRow[];
  }

  /** Newest day first, then by channel. */
  async engagement(organizations: Organizations, span: Span): Promise<EngagementRow[]> {
    const where = spanned('requested_at', organizations, span);
    const rows: Record<string, string>[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select date_trunc('day', requested_at, 'UTC') as date, channel,
         count(*) filter (where sent_at is not null) as sent, count(*) filter (where status = 'BOUNCED') as bounced,
         count(*) filter (where opens > 0) as opened, sum(opens) as opens,
         count(*) filter (where clicks > 0) as clicked, sum(clicks) as clicks,
         sum(complaints) as complaints, sum(opt_outs) as "optOuts"
       from legs where ${where.text()} group by 1, 2 order by 1 desc, 2`,
        where.values,
      ),
    );
    return rows.map(({ date, channel, ...counts }) => {
      const count = (name: string): number => Number(counts[name]);
      const rate = (name: string) => (count('sent') === 0 ? null : count(name) / count('sent'));
      return {
        date: new Date(date as unknown as Date).toISOString(),
        channel: channel as Channel,
        sent: count('sent'),
        bounced: count('bounced'),
        opened: count('opened'),
        opens: count('opens'),
        clicked: count('clicked'),
        clicks: count('clicks'),
        complaints: count('complaints'),
        optOuts: count('optOuts'),
        openRate: rate('opened'),
        clickRate: rate('clicked'),
        bounceRate: rate('bounced'),
        complaintRate: rate('complaints'),
      };
    });
  }

  /** Newest day first, then by provider and channel. */
  async providers(organizations: Organizations, span: Span): Promise<ProviderPerformanceRow[]> {
    const where = spanned('started_at', organizations, span);
    // Two clocks may have recorded start and outcome: never negative.
    const took = `greatest(0, ${milliseconds('completed_at', 'started_at')})`;
    const rows: Record<string, string>[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select date_trunc('day', started_at, 'UTC') as date, provider, channel, count(*) as attempts,
         count(*) filter (where status = 'SUCCEEDED') as succeeded, count(*) filter (where status = 'FAILED') as failed,
         avg(${took}) as "averageMs", ${percentile(0.95, took, 'p95Ms')},
         ${ERROR_CATEGORIES.map((one) => `count(*) filter (where error ->> 'category' = '${one}') as "${one}"`).join(', ')}
       from attempts where status in ('SUCCEEDED', 'FAILED') and ${where.text()}
       group by 1, 2, 3 order by 1 desc, 2, 3`,
        where.values,
      ),
    );
    return rows.map(({ date, provider, channel, averageMs, p95Ms, attempts, succeeded, failed, ...errors }) => ({
      ...{ provider, channel },
      date: new Date(date as unknown as Date).toISOString(),
      ...{ attempts: Number(attempts), succeeded: Number(succeeded ?? 0), failed: Number(failed ?? 0) },
      errors: Object.fromEntries(
        Object.entries(errors).flatMap(([name, count]) => (count === '0' ? [] : [[name, Number(count)]])),
      ),
      successRate: Number(succeeded ?? 0) / Number(attempts),
      averageMs: averageMs === null ? null : Number(averageMs),
      p95Ms: p95Ms === null ? null : Number(p95Ms),
    })) as unknown as ProviderPerformanceRow[];
  }

  /** Newest day first, then by channel and provider. */
  async deliveries(organizations: Organizations, span: Span): Promise<DeliveryPerformanceRow[]> {
    const where = spanned('requested_at', organizations, span);
    const rows: Record<string, string>[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select date_trunc('day', requested_at, 'UTC') as date, channel, provider, count(*) as total,
         count(*) filter (where ${DELIVERED}) as successful,
         avg(${milliseconds('sent_at', 'requested_at')}) filter (where ${DELIVERED}) as "averageDeliveryMs"
       from legs where ${where.text()} group by 1, 2, 3 order by 1 desc, 2, 3 nulls first`,
        where.values,
      ),
    );
    return rows.map(({ date, total, successful, averageDeliveryMs, ...rest }) => ({
      ...rest,
      date: new Date(date as unknown as Date).toISOString(),
      ...{ total: Number(total), successful: Number(successful) },
      averageDeliveryMs: averageDeliveryMs === null ? null : Number(averageDeliveryMs),
    })) as unknown as DeliveryPerformanceRow[];
  }
}

function spanned(column: string, organizations: Organizations, { from, to }: Span): Conditions {
  const where = new Conditions();
  where.add(`${column} >= ${where.parameter(from)} and ${column} < ${where.parameter(to)}`);
  if (organizations !== 'all') where.add(`organization_id = any(${where.parameter([...organizations])})`);
  return where;
}
