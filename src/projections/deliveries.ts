import type { Leg } from '../domain/delivery-state.js';
import { deliveryStatus, type Hold, holdsOf, legStatus } from '../domain/delivery-status.js';
import type { LegReports } from '../domain/reports.js';
import type { Channel, Failure, Instant, Json, Priority, Status } from '../domain/vocabulary.js';
import { type Column, replacing, rowWriter } from './columns.js';
import { addHours, hourRows } from './delivery-hours.js';
import { byAge, type Projection } from './projection.js';
import { type DeliverySnapshot, deliveries as stream } from './views.js';

/** One delivery as the public API shows it, but for its attempts and its history. */
export interface DeliveryRow {
  readonly id: string;
  readonly organizationId: string;
  readonly status: Status;
  readonly priority: Priority;
  readonly legs: readonly LegRow[];
  readonly holds: readonly Hold[];
  readonly tags: readonly string[];
  readonly metadata: Json;
  readonly correlationId: string | null;
  readonly idempotencyKey: string | null;
  /** Of all planned routes, fallbacks included; as are `destinationIds`. */
  readonly channels: readonly Channel[];
  readonly destinationIds: readonly string[];
  /** The persons it is to, of all planned routes, by the names that tell nobody who they are. */
  readonly subjects: readonly string[];
  readonly deadLettered: boolean;
  readonly requestedAt: Instant;
  readonly scheduledAt: Instant | null;
  readonly expiresAt: Instant | null;
  readonly completedAt: Instant | null;
  readonly updatedAt: Instant;
  readonly revision: number;
  /** Log position of its newest event, in decimal. */
  readonly position: string;
}

/** A leg on its current route. */
export interface LegRow {
  /** `<delivery id>-<leg>` */
  readonly id: string;
  readonly channel: Channel;
  readonly destinationId: string | null;
  readonly recipientId: null;
  readonly status: Status;
  readonly attempts: number;
  readonly nextAttemptAt: Instant | null;
  /** Its last route has failed for good; a person may retry it. */
  readonly deadLettered: boolean;
  readonly failure: Failure | null;
  /** What people did with it, as far as providers report it; missing before the first report. */
  readonly engagement?: Engagement;
}

export type Engagement = Pick<LegReports, 'opens' | 'clicks' | 'complaints' | 'optOuts'> & {
  readonly firstOpenedAt: Instant | null;
  readonly firstClickedAt: Instant | null;
};

/** Also the answer of mutations and of time travel: needs no database. */
export function deliveryRow(snapshot: DeliverySnapshot): DeliveryRow {
  const { id, state, revision, position, updatedAt, completedAt } = snapshot;
  const { request, requestedAt } = state;
  const channels: Channel[] = [];
  const destinationIds: string[] = [];
  const subjects: string[] = [];
  for (const { routes } of request.legs)
    for (const { channel, destinationId, subject } of routes) {
      channels.push(channel);
      if (subject !== undefined) subjects.push(subject);
      if (destinationId !== undefined) destinationIds.push(destinationId);
    }
  const legs = state.legs.map((leg) => legRow(snapshot, leg));
  return {
    id,
    organizationId: request.organizationId,
    status: deliveryStatus(state),
    priority: request.priority,
    legs,
    holds: holdsOf(state),
    tags: request.tags,
    metadata: request.metadata ?? null,
    correlationId: request.correlationId ?? null,
    idempotencyKey: request.idempotencyKey ?? null,
    channels: distinct(channels),
    destinationIds: distinct(destinationIds),
    subjects: distinct(subjects),
    deadLettered: legs.some((leg) => leg.deadLettered),
    requestedAt,
    scheduledAt: request.scheduledAt ?? null,
    expiresAt: request.expiresAt ?? null,
    completedAt: completedAt ?? null,
    updatedAt,
    revision,
    position: String(position),
  };
}

const distinct = <T>(values: readonly T[]): readonly T[] => (values.length > 1 ? [...new Set(values)] : values);

function legRow({ id, state }: DeliverySnapshot, leg: Leg): LegRow {
  const route = leg.routes[leg.route];
  if (!route) throw new Error(`leg ${leg.leg} has no route ${leg.route}`);
  return {
    id: `${id}-${leg.leg}`,
    channel: route.channel,
    destinationId: route.destinationId ?? null,
    recipientId: null,
    status: legStatus(state, leg),
    attempts: leg.attempts,
    nextAttemptAt: state.tag === 'active' && leg.progress.tag === 'retrying' ? leg.progress.dueAt : null,
    deadLettered: leg.progress.tag === 'failed',
    failure: leg.failure ?? null,
    ...(leg.reports && { engagement: engagementOf(leg.reports) }),
  };
}

const engagementOf = (reports: LegReports): Engagement => ({
  opens: reports.opens,
  clicks: reports.clicks,
  complaints: reports.complaints,
  optOuts: reports.optOuts,
  firstOpenedAt: reports.firstOpenedAt ?? null,
  firstClickedAt: reports.firstClickedAt ?? null,
});

const columns: readonly Column<DeliveryRow>[] = [
  { name: 'id', type: 'uuid', of: (row) => row.id },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'status', type: 'text', of: (row) => row.status },
  { name: 'priority', type: 'text', of: (row) => row.priority },
  { name: 'legs', type: 'jsonb', of: (row) => row.legs },
  { name: 'holds', type: 'jsonb', of: (row) => row.holds },
  { name: 'tags', type: 'text[]', of: (row) => row.tags },
  { name: 'metadata', type: 'jsonb', of: (row) => row.metadata },
  { name: 'correlation_id', type: 'text', of: (row) => row.correlationId },
  { name: 'idempotency_key', type: 'text', of: (row) => row.idempotencyKey },
  { name: 'channels', type: 'text[]', of: (row) => row.channels },
  { name: 'destination_ids', type: 'uuid[]', of: (row) => row.destinationIds },
  { name: 'subjects', type: 'text[]', of: (row) => row.subjects },
  { name: 'dead_lettered', type: 'boolean', of: (row) => row.deadLettered },
  { name: 'requested_at', type: 'timestamptz', of: (row) => row.requestedAt },
  { name: 'scheduled_at', type: 'timestamptz', of: (row) => row.scheduledAt },
  { name: 'expires_at', type: 'timestamptz', of: (row) => row.expiresAt },
  { name: 'completed_at', type: 'timestamptz', of: (row) => row.completedAt },
  { name: 'updated_at', type: 'timestamptz', of: (row) => row.updatedAt },
  { name: 'revision', type: 'integer', of: (row) => row.revision },
  { name: 'position', type: 'bigint', of: (row) => BigInt(row.position) },
  { name: 'rare_status', type: 'text', of: ({ status }) => (RARE_STATUSES.has(status) ? status : null) },
];

/**
 * Statuses that a delivery does not pass through when all goes well. They have indexes of their own, which the others must
 * not have: an update that changes what an index has cannot stay in its page (HOT), and touches every index.
 */
export const RARE_STATUSES: ReadonlySet<Status> = new Set<Status>([
  ...(['HELD', 'FAILED', 'BOUNCED', 'REJECTED', 'EXPIRED', 'CANCELLED'] as const),
]);

/** Everything else is decided by the request. Of these, indexes have what seldom changes: what a delivery waits for, and how it failed. */
const changing = [
  ...['status', 'legs', 'holds', 'dead_lettered', 'completed_at', 'updated_at', 'revision', 'position'],
  'rare_status',
];
const write = rowWriter('deliveries', columns, ['id'], replacing(...changing));

export const deliveries: Projection = {
  name: 'deliveries',
  version: 1,
  tables: ['deliveries', 'delivery_hours'],
  prefixes: [stream.prefix],
  statements({ deliveries: changes }) {
    const { added, others } = byAge(changes);
    const rows = (some: typeof added) => some.map(({ after }) => deliveryRow(after));
    const hours = hourRows(changes);
    return [...write({ added: rows(added), others: rows(others) }), ...(hours.length > 0 ? [addHours(hours)] : [])];
  },
};
