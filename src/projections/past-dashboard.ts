import type { Instant, Organizations } from '../domain/vocabulary.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { BadQuery } from './cursor.js';
import { COUNTERS, type Contribution, type Counter, contributions } from './dashboard.js';
import { type Bucket, type BucketSums, type DashboardRow, dashboardRow, numbersOf, SUMS } from './dashboard-query.js';
import { eachStream, foldedTo, type Past } from './past.js';
import type { TenantReads } from './tenant-reads.js';

/** Deliveries whose streams one answer reads at most. */
const MOST_STREAMS = 10_000;
const HOUR_MS = 3_600_000;

/** The dashboard is being made anew, or its rows and those of the deliveries are not of one moment. */
export class NotInStep extends Error {
  override name = 'NotInStep';
}

interface Snapshot {
  readonly sums: readonly ({ readonly bucket: string; readonly channel: string } & Record<Counter, number>)[];
  readonly changed: readonly { readonly id: string; readonly position: string }[];
  readonly positions: readonly string[];
}

/**
 * The dashboard as it was: as it is, less what deliveries that have changed since add to it now, plus what they added then.
 * That costs two folds for each of those, however many others there are.
 */
export class PastDashboard {
  readonly #reader: EventReader;
  readonly #codec: EventCodec;
  readonly #reads: TenantReads;

  constructor(reader: EventReader, codec: EventCodec, reads: TenantReads) {
    this.#reader = reader;
    this.#codec = codec;
    this.#reads = reads;
  }

  /**
   * As `DashboardQueries.dashboard`.
   *
   * @throws BadQuery when too many deliveries of the span have changed since
   * @throws NotInStep when it is to be asked again later
   */
  async dashboard(
    past: Past,
    organizations: Organizations,
    from: Date,
    to: Date,
    bucket: Bucket,
  ): Promise<DashboardRow[]> {
    const start = new Date(Math.floor(from.getTime() / HOUR_MS) * HOUR_MS);
    // Later hours were empty.
    const end = new Date(Math.ceil(Math.min(to.getTime(), Date.parse(past.latest)) / HOUR_MS) * HOUR_MS);
    const { sums, changed } = await this.#snapshot(past, organizations, start, end, bucket);
    const buckets = new Map<string, BucketSums & { readonly sums: Record<Counter, number> }>();
    for (const row of sums) {
      const key = { bucket: new Date(row.bucket).toISOString(), channel: row.channel as BucketSums['channel'] };
      buckets.set(`${key.bucket} ${key.channel}`, { ...key, sums: numbersOf(row) });
    }
    const add = (rows: readonly Contribution[], sign: 1 | -1) => {
      for (const { hour, channel, counts } of rows) {
        const key = { bucket: bucketOf(hour, bucket), channel };
        const name = `${key.bucket} ${channel}`;
        const known = buckets.get(name) ?? { ...key, sums: nothing() };
        buckets.set(name, known);
        for (const counter in counts) known.sums[counter as Counter] += sign * (counts[counter as Counter] as number);
      }
    };
    await eachStream(this.#reader, changed, ({ id, position }, recorded) => {
      const now = foldedTo(this.#codec, id, recorded, (event) => event.position <= BigInt(position));
      const then = foldedTo(this.#codec, id, recorded, past.includes);
      if (now) add(contributions(now.view), -1);
      if (then) add(contributions(then.view), 1);
    });
    return [...buckets.values()]
      .filter((row) => row.sums.total > 0)
      .sort((a, b) => compare(b.bucket, a.bucket) || compare(a.channel, b.channel))
      .map(dashboardRow);
  }

  /** All in one statement, so that it is of one moment. */
  async #snapshot(past: Past, organizations: Organizations, start: Date, end: Date, bucket: Bucket): Promise<Snapshot> {
    const values: unknown[] = [];
    const parameter = (value: unknown) => `$${values.push(value)}`;
    const [from, to, unit] = [parameter(start), parameter(end), parameter(bucket)];
    const own = organizations === 'all' ? 'true' : `organization_id = any(${parameter([...organizations])})`;
    const [snapshot]: Snapshot[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select
           (select coalesce(json_agg(s), '[]') from (
              select date_trunc(${unit}, hour, 'UTC') as bucket, channel, ${SUMS} from dashboard_hours
              where hour >= ${from}::timestamptz and hour < ${to}::timestamptz and ${own} group by 1, 2) s) as sums,
           (select coalesce(json_agg(c), '[]') from (
              select id, position::text from deliveries
              where requested_at >= ${from}::timestamptz and requested_at < ${to}::timestamptz and ${own}
                and ${past.changedSince(parameter)} limit ${MOST_STREAMS + 1}) c) as changed,
           (select coalesce(json_agg(distinct position::text), '[]') from projection_checkpoints
            where name in ('deliveries', 'dashboard')) as positions`,
        values,
      ),
    );
    const { changed, positions } = snapshot as Snapshot;
    if (positions.length !== 1) throw new NotInStep('the dashboard and the deliveries are not in step');
    if (changed.length > MOST_STREAMS)
      throw new BadQuery(
        'asOf',
        `more than ${MOST_STREAMS} deliveries of this span have changed since: ask for a shorter span, or for one organization`,
      );
    return snapshot as Snapshot;
  }
}

const nothing = () => Object.fromEntries(COUNTERS.map((counter) => [counter, 0])) as Record<Counter, number>;
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The beginning of the hour's bucket by UTC, as `date_trunc` has it: weeks begin on Monday. */
export function bucketOf(hour: Instant, bucket: Bucket): Instant {
  const date = new Date(hour);
  if (bucket === 'month') date.setUTCDate(1);
  if (bucket === 'week') date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7));
  if (bucket !== 'hour') date.setUTCHours(0);
  return date.toISOString();
}
