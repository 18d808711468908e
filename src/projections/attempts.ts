import type { AttemptRef, DeliveryEvent } from '../domain/delivery-events.js';
import type { Channel, Failure, Instant } from '../domain/vocabulary.js';
import type { Decoded } from '../event-store/codec.js';
import { type Column, replacing, rowWriter } from './columns.js';
import { byAge, type Projection } from './projection.js';
import { deliveries as stream } from './views.js';

export const ATTEMPT_STATUSES = ['STARTED', 'SUCCEEDED', 'FAILED', 'IN_DOUBT'] as const;
export type AttemptStatus = (typeof ATTEMPT_STATUSES)[number];

/** One call to one provider. */
export interface AttemptRow {
  /** `<delivery id>-<leg>-<number>` */
  readonly id: string;
  readonly deliveryId: string;
  readonly organizationId: string;
  readonly leg: number;
  /** `<delivery id>-<leg>` */
  readonly legId: string;
  readonly number: number;
  /** Index into the leg's routes. */
  readonly route: number;
  readonly channel: Channel;
  readonly provider: string;
  /** Why it was this one, where there was a choice; for people. */
  readonly providerReason: string | null;
  readonly destinationId: string | null;
  readonly status: AttemptStatus;
  readonly startedAt: Instant;
  /** When its outcome was recorded; null while there is none, and in doubt. */
  readonly completedAt: Instant | null;
  readonly error: Failure | null;
  readonly providerMessageId: string | null;
  readonly warning: string | null;
}

/** A stream's attempts in the order they began, from its events alone: each says all there is to say of its attempt. */
export function attemptsOf(deliveryId: string, events: readonly Decoded<DeliveryEvent>[]): AttemptRow[] {
  const rows = new Map<string, AttemptRow>();
  for (const decoded of events) {
    const row = attemptRow(deliveryId, decoded);
    if (row) rows.set(row.id, row);
  }
  return [...rows.values()];
}

function attemptRow(deliveryId: string, { event, organizationId }: Decoded<DeliveryEvent>): AttemptRow | undefined {
  switch (event.type) {
    case 'AttemptStarted':
      return started(deliveryId, organizationId, event.data);
    case 'AttemptSucceeded':
      return {
        ...started(deliveryId, organizationId, event.data),
        status: 'SUCCEEDED',
        completedAt: event.at,
        providerMessageId: event.data.providerMessageId ?? null,
        warning: event.data.warning ?? null,
      };
    case 'AttemptFailed':
      return {
        ...started(deliveryId, organizationId, event.data),
        status: 'FAILED',
        completedAt: event.at,
        error: event.data.failure,
      };
    case 'AttemptInDoubt':
      return { ...started(deliveryId, organizationId, event.data), status: 'IN_DOUBT' };
    case 'AttemptResolved':
      return {
        ...started(deliveryId, organizationId, event.data),
        ...(event.data.outcome === 'not-sent' ? { status: 'FAILED', error: NOT_SENT } : { status: 'SUCCEEDED' }),
        completedAt: event.at,
      };
    default:
      return undefined;
  }
}

const NOT_SENT: Failure = {
  category: 'SYSTEM',
  code: 'NOT_SENT',
  message: 'it was in doubt, and a person has found that the provider had not had it',
};

const started = (deliveryId: string, organizationId: string, attempt: AttemptRef): AttemptRow => ({
  deliveryId,
  organizationId,
  leg: attempt.leg,
  number: attempt.number,
  route: attempt.route,
  channel: attempt.channel,
  provider: attempt.provider,
  providerReason: attempt.providerReason ?? null,
  destinationId: attempt.destinationId ?? null,
  status: 'STARTED',
  startedAt: attempt.startedAt,
  completedAt: null,
  error: null,
  providerMessageId: null,
  warning: null,
  ...attemptIds({ deliveryId, leg: attempt.leg, number: attempt.number }),
});

type AttemptKey = Pick<AttemptRow, 'deliveryId' | 'leg' | 'number'>;

export const attemptIds = ({ deliveryId, leg, number }: AttemptKey): Pick<AttemptRow, 'id' | 'legId'> => ({
  id: `${deliveryId}-${leg}-${number}`,
  legId: `${deliveryId}-${leg}`,
});

const columns: readonly Column<AttemptRow>[] = [
  { name: 'delivery_id', type: 'uuid', of: (row) => row.deliveryId },
  { name: 'leg', type: 'integer', of: (row) => row.leg },
  { name: 'number', type: 'integer', of: (row) => row.number },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'route', type: 'integer', of: (row) => row.route },
  { name: 'channel', type: 'text', of: (row) => row.channel },
  { name: 'provider', type: 'text', of: (row) => row.provider },
  { name: 'provider_reason', type: 'text', of: (row) => row.providerReason },
  { name: 'destination_id', type: 'uuid', of: (row) => row.destinationId },
  { name: 'status', type: 'text', of: (row) => row.status },
  { name: 'started_at', type: 'timestamptz', of: (row) => row.startedAt },
  { name: 'completed_at', type: 'timestamptz', of: (row) => row.completedAt },
  { name: 'error', type: 'jsonb', of: (row) => row.error },
  { name: 'provider_message_id', type: 'text', of: (row) => row.providerMessageId },
  { name: 'warning', type: 'text', of: (row) => row.warning },
];

const outcome = ['status', 'completed_at', 'error', 'provider_message_id', 'warning'];
const write = rowWriter('attempts', columns, ['delivery_id', 'leg', 'number'], replacing(...outcome));

export const attempts: Projection = {
  name: 'attempts',
  version: 2,
  tables: ['attempts'],
  prefixes: [stream.prefix],
  statements({ deliveries }) {
    const { added, others } = byAge(deliveries);
    const rows = (some: typeof added) => some.flatMap(({ id, events }) => attemptsOf(id, events));
    return write({ added: rows(added), others: rows(others) });
  },
};
