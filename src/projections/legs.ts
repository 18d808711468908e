import { legStatus } from '../domain/delivery-status.js';
import { instantOf, millisOf } from '../domain/instant.js';
import type { Channel, ErrorCategory, Instant, Priority, Status } from '../domain/vocabulary.js';
import { type Column, replacing, rowWriter } from './columns.js';
import { byAge, type Projection } from './projection.js';
import { type DeliveryView, type LegMarks, deliveries as stream } from './views.js';

/** One target of a delivery, on its current route: what service levels, dead letters and providers are judged by. */
export interface LegRecord {
  readonly deliveryId: string;
  readonly leg: number;
  readonly organizationId: string;
  readonly channel: Channel;
  /** Of the newest attempt. */
  readonly provider: string | null;
  readonly destinationId: string | null;
  readonly priority: Priority;
  readonly status: Status;
  readonly attempts: number;
  readonly requestedAt: Instant;
  readonly firstAttemptAt: Instant | null;
  /** When the provider accepted it. */
  readonly sentAt: Instant | null;
  /** When it is to have been accepted: the request plus its SLA; null when it has none. */
  readonly dueAt: Instant | null;
  /** Of its newest failure, until it succeeds. */
  readonly errorCategory: ErrorCategory | null;
  readonly errorCode: string | null;
  readonly deadLettered: boolean;
  /** What people did with it, as far as providers report it. */
  readonly opens: number;
  readonly clicks: number;
  readonly complaints: number;
  readonly optOuts: number;
  readonly updatedAt: Instant;
}

export function legRecords({ id, state, marks, updatedAt }: DeliveryView): LegRecord[] {
  const { request, requestedAt } = state;
  const { slaSeconds } = request;
  const dueAt = slaSeconds === undefined ? null : instantOf(millisOf(requestedAt) + slaSeconds * 1_000);
  return state.legs.map((leg, index) => {
    const mark = marks[index] as LegMarks;
    const route = leg.routes[leg.route];
    if (!route) throw new Error(`leg ${leg.leg} has no route ${leg.route}`);
    return {
      deliveryId: id,
      leg: leg.leg,
      organizationId: request.organizationId,
      channel: route.channel,
      provider: mark.provider ?? null,
      destinationId: route.destinationId ?? null,
      priority: request.priority,
      status: legStatus(state, leg),
      attempts: leg.attempts,
      requestedAt,
      firstAttemptAt: mark.firstAttemptAt ?? null,
      sentAt: mark.sentAt ?? null,
      dueAt,
      errorCategory: leg.failure?.category ?? null,
      errorCode: leg.failure?.code ?? null,
      deadLettered: leg.progress.tag === 'failed',
      opens: leg.reports?.opens ?? 0,
      clicks: leg.reports?.clicks ?? 0,
      complaints: leg.reports?.complaints ?? 0,
      optOuts: leg.reports?.optOuts ?? 0,
      updatedAt,
    };
  });
}

const columns: readonly Column<LegRecord>[] = [
  { name: 'delivery_id', type: 'uuid', of: (row) => row.deliveryId },
  { name: 'leg', type: 'integer', of: (row) => row.leg },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'channel', type: 'text', of: (row) => row.channel },
  { name: 'provider', type: 'text', of: (row) => row.provider },
  { name: 'destination_id', type: 'uuid', of: (row) => row.destinationId },
  { name: 'priority', type: 'text', of: (row) => row.priority },
  { name: 'status', type: 'text', of: (row) => row.status },
  { name: 'attempts', type: 'integer', of: (row) => row.attempts },
  { name: 'requested_at', type: 'timestamptz', of: (row) => row.requestedAt },
  { name: 'first_attempt_at', type: 'timestamptz', of: (row) => row.firstAttemptAt },
  { name: 'sent_at', type: 'timestamptz', of: (row) => row.sentAt },
  { name: 'due_at', type: 'timestamptz', of: (row) => row.dueAt },
  { name: 'error_category', type: 'text', of: (row) => row.errorCategory },
  { name: 'error_code', type: 'text', of: (row) => row.errorCode },
  { name: 'dead_lettered', type: 'boolean', of: (row) => row.deadLettered },
  { name: 'opens', type: 'integer', of: (row) => row.opens },
  { name: 'clicks', type: 'integer', of: (row) => row.clicks },
  { name: 'complaints', type: 'integer', of: (row) => row.complaints },
  { name: 'opt_outs', type: 'integer', of: (row) => row.optOuts },
  { name: 'updated_at', type: 'timestamptz', of: (row) => row.updatedAt },
  { name: 'open_due_at', type: 'timestamptz', of: (row) => (isOpen(row) ? row.dueAt : null) },
  { name: 'unmet_due_at', type: 'timestamptz', of: (row) => (isMet(row) ? null : row.dueAt) },
];

/** These two have indexes: of all legs only those with a service level pay for them. */
const isOpen = ({ status }: LegRecord) => status === 'HELD' || status === 'QUEUED' || status === 'PROCESSING';
/** Accepted in time, or not wanted any more. */
const isMet = ({ status, sentAt, dueAt }: LegRecord) =>
  status === 'CANCELLED' || (dueAt !== null && sentAt !== null && sentAt <= dueAt);

const changing = [
  ...['channel', 'provider', 'destination_id', 'status', 'attempts', 'first_attempt_at', 'sent_at'],
  ...['open_due_at', 'unmet_due_at'],
  ...['error_category', 'error_code', 'dead_lettered', 'opens', 'clicks', 'complaints', 'opt_outs', 'updated_at'],
];
const write = rowWriter('legs', columns, ['delivery_id', 'leg'], replacing(...changing));

export const legs: Projection = {
  name: 'legs',
  version: 2,
  tables: ['legs'],
  prefixes: [stream.prefix],
  statements({ deliveries: changes }) {
    const { added, others } = byAge(changes);
    const rows = (some: typeof added) => some.flatMap(({ after }) => legRecords(after));
    return write({ added: rows(added), others: rows(others) });
  },
};
