import type { Leg } from '../domain/delivery-state.js';
import { legStatus } from '../domain/delivery-status.js';
import { millisOf } from '../domain/instant.js';
import { type Channel, ERROR_CATEGORIES, type Instant, type Status } from '../domain/vocabulary.js';
import { type Column, upsert } from './columns.js';
import type { Change, Projection } from './projection.js';
import { type DeliveryView, type LegMarks, deliveries as stream } from './views.js';

/** What is counted of every leg. Times in milliseconds. */
export const COUNTERS = [
  'total',
  'delivered',
  'failed',
  'pending',
  'recipients',
  'high_priority',
  'processing_ms',
  'processing_count',
  'delivery_ms',
  'delivery_count',
  'sla_met',
  'sla_counted',
  ...ERROR_CATEGORIES.map((category) => `error_${category.toLowerCase()}` as const),
] as const;
export type Counter = (typeof COUNTERS)[number];

/** Counts of one organization's legs requested in one hour for one channel. */
export interface Contribution {
  readonly organizationId: string;
  /** The hour of the request, by UTC. */
  readonly hour: Instant;
  /** Of the leg's first route: what was asked for, whatever it fell back to. */
  readonly channel: Channel;
  readonly counts: Partial<Record<Counter, number>>;
}

/**
 * What one delivery adds to the dashboard: one row for each leg.
 *
 * - `delivered`: SENT or DELIVERED. `failed`: FAILED, BOUNCED, REJECTED or EXPIRED. `pending`: HELD, QUEUED or
 *   PROCESSING. A cancelled leg is in `total` only.
 * - processing: request → start of the first attempt; delivery: request → accepted by the provider.
 * - SLA: only legs of deliveries with `slaSeconds`, once they have ended otherwise than by cancelling; met when
 *   delivered within that time.
 * - errors: legs that ever met a failure of the category, also if they recovered.
 */
export function contributions({ state, marks }: Pick<DeliveryView, 'state' | 'marks'>): Contribution[] {
  const { request, requestedAt } = state;
  return state.legs.map((leg, index) => ({
    organizationId: request.organizationId,
    hour: `${requestedAt.slice(0, 13)}:00:00.000Z`,
    channel: (leg.routes[0] as { channel: Channel }).channel,
    counts: {
      total: 1,
      recipients: request.legs[index]?.recipients ?? 0,
      high_priority: request.priority === 'URGENT' || request.priority === 'HIGH' ? 1 : 0,
      ...outcomeCounts(state, leg, marks[index] as LegMarks),
    },
  }));
}

const isDelivered = (status: Status) => status === 'SENT' || status === 'DELIVERED';
const isPending = (status: Status) => status === 'HELD' || status === 'QUEUED' || status === 'PROCESSING';

function outcomeCounts(state: DeliveryView['state'], leg: Leg, marks: LegMarks): Contribution['counts'] {
  const status = legStatus(state, leg);
  const { slaSeconds } = state.request;
  const counts: Partial<Record<Counter, number>> = {};
  if (isDelivered(status)) counts.delivered = 1;
  else if (isPending(status)) counts.pending = 1;
  else if (status !== 'CANCELLED') counts.failed = 1;
  const elapsed = (until: Instant) => Math.max(0, millisOf(until) - millisOf(state.requestedAt));
  if (marks.firstAttemptAt !== undefined) {
    counts.processing_ms = elapsed(marks.firstAttemptAt);
    counts.processing_count = 1;
  }
  const deliveryMs = isDelivered(status) && marks.sentAt !== undefined ? elapsed(marks.sentAt) : undefined;
  if (deliveryMs !== undefined) {
    counts.delivery_ms = deliveryMs;
    counts.delivery_count = 1;
  }
  if (slaSeconds !== undefined && !isPending(status) && status !== 'CANCELLED') {
    counts.sla_counted = 1;
    counts.sla_met = deliveryMs !== undefined && deliveryMs <= slaSeconds * 1_000 ? 1 : 0;
  }
  for (const category of marks.categories) counts[`error_${category.toLowerCase() as Lowercase<typeof category>}`] = 1;
  return counts;
}

type Bucket = Omit<Contribution, 'counts'> & { readonly counts: Record<Counter, number> };

/** What the batch adds to each bucket: all that is there after it, less all that was there before. */
export function difference(changes: readonly Pick<Change<DeliveryView, never>, 'before' | 'after'>[]): Bucket[] {
  const buckets = new Map<string, Bucket>();
  const add = (rows: readonly Contribution[], sign: 1 | -1) => {
    for (const { organizationId, hour, channel, counts } of rows) {
      const key = `${hour} ${channel} ${organizationId}`;
      let bucket = buckets.get(key);
      if (!bucket) {
        bucket = { organizationId, hour, channel, counts: { ...zero } };
        buckets.set(key, bucket);
      }
      for (const counter in counts) bucket.counts[counter as Counter] += sign * (counts[counter as Counter] as number);
    }
  };
  for (const { before, after } of changes) {
    if (before) add(contributions(before), -1);
    add(contributions(after), 1);
  }
  return [...buckets.values()];
}

const zero = Object.fromEntries(COUNTERS.map((counter) => [counter, 0])) as Record<Counter, number>;

const columns: readonly Column<Bucket>[] = [
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'hour', type: 'timestamptz', of: (row) => row.hour },
  { name: 'channel', type: 'text', of: (row) => row.channel },
  ...COUNTERS.map((counter) => ({
    name: counter,
    type: 'bigint' as const,
    of: (row: Bucket) => row.counts[counter],
  })),
];
const add = upsert(
  'dashboard_hours',
  columns,
  ['organization_id', 'hour', 'channel'],
  Object.fromEntries(COUNTERS.map((counter) => [counter, `dashboard_hours.${counter} + excluded.${counter}`])),
);

export const dashboard: Projection = {
  name: 'dashboard',
  version: 1,
  tables: ['dashboard_hours'],
  prefixes: [stream.prefix],
  statements({ deliveries }) {
    const rows = difference(deliveries);
    return rows.length === 0 ? [] : [add(rows)];
  },
};
