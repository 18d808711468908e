import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DestinationDefinition } from '../domain/destination.js';
import { millisOf } from '../domain/instant.js';
import type { OpenCircuit } from '../domain/provider.js';
import type { RetryPolicy } from '../domain/retry-policy.js';
import type { Channel, Instant, JsonObject } from '../domain/vocabulary.js';
import type { Decoded } from '../event-store/codec.js';
import { type Column, replacing, upsert } from './columns.js';
import type { Change, Projection } from './projection.js';
import { type DeliveryView, type DestinationView, deliveries, destinations as stream } from './views.js';

/** A destination as configured. `config` has asterisks for secrets; the secrets themselves never come here. */
export interface DestinationRow {
  readonly id: string;
  readonly organizationId: string;
  readonly label: string;
  readonly type: Channel;
  readonly description: string | null;
  readonly config: JsonObject;
  readonly retry: RetryPolicy | null;
  readonly limits: DestinationDefinition['limits'] | null;
  /** Why it is not called for now, and until when. */
  readonly circuit: OpenCircuit | null;
  readonly isDefault: boolean;
  readonly enabled: boolean;
  readonly disabledReason: string | null;
  readonly deleted: boolean;
  readonly createdAt: Instant;
  readonly updatedAt: Instant;
}

/** Also the answer of mutations: needs no database. */
export function destinationRow({ id, state, createdAt, updatedAt }: Omit<DestinationView, 'position'>): DestinationRow {
  const { organizationId, label, type, description, config, retry, limits, isDefault } = state.definition;
  const disabledReason = (state.tag === 'present' && state.disabled) || null;
  return {
    id,
    organizationId,
    label,
    type,
    description: description ?? null,
    config,
    retry: retry ?? null,
    limits: limits ?? null,
    circuit: (state.tag === 'present' && state.circuit) || null,
    isDefault,
    enabled: state.tag === 'present' && state.disabled === undefined,
    disabledReason,
    deleted: state.tag === 'deleted',
    createdAt,
    updatedAt,
  };
}

/** How attempts at one destination went, in the order their outcomes were recorded. */
export interface HealthCounts {
  readonly destinationId: string;
  /** Attempts with an outcome. */
  readonly deliveries: number;
  readonly failures: number;
  /** Failures since the last success, or since the beginning. */
  readonly consecutive: number;
  readonly lastSuccessAt: Instant | null;
  readonly lastFailureAt: Instant | null;
  /** From the attempt's start to its outcome, summed over all outcomes. */
  readonly responseMs: number;
}

const noCounts = {
  deliveries: 0,
  failures: 0,
  consecutive: 0,
  lastSuccessAt: null,
  lastFailureAt: null,
  responseMs: 0,
};

/** What the batch adds, per destination. Adding batch after batch gives what one batch of everything would give. */
export function healthCounts(changes: readonly Pick<Change<DeliveryView, DeliveryEvent>, 'events'>[]): HealthCounts[] {
  const byDestination = new Map<string, HealthCounts>();
  for (const { event } of outcomesInLogOrder(changes)) {
    if (event.type !== 'AttemptSucceeded' && event.type !== 'AttemptFailed') continue;
    const destinationId = event.data.destinationId;
    if (destinationId === undefined) continue;
    const counts = byDestination.get(destinationId) ?? { destinationId, ...noCounts };
    const succeeded = event.type === 'AttemptSucceeded';
    byDestination.set(destinationId, {
      destinationId,
      deliveries: counts.deliveries + 1,
      failures: counts.failures + (succeeded ? 0 : 1),
      consecutive: succeeded ? 0 : counts.consecutive + 1,
      lastSuccessAt: succeeded ? later(counts.lastSuccessAt, event.at) : counts.lastSuccessAt,
      lastFailureAt: succeeded ? counts.lastFailureAt : later(counts.lastFailureAt, event.at),
      // Two clocks may have recorded start and outcome: never negative.
      responseMs: counts.responseMs + Math.max(0, millisOf(event.at) - millisOf(event.data.startedAt)),
    });
  }
  return [...byDestination.values()];
}

const outcomesInLogOrder = (
  changes: readonly Pick<Change<DeliveryView, DeliveryEvent>, 'events'>[],
): Decoded<DeliveryEvent>[] =>
  changes
    .flatMap(({ events }) => events)
    .filter(({ event }) => event.type === 'AttemptSucceeded' || event.type === 'AttemptFailed')
    .sort((a, b) => (a.recorded.position < b.recorded.position ? -1 : 1));

const later = (a: Instant | null, b: Instant): Instant => (a !== null && a > b ? a : b);

const definitionColumns: readonly Column<DestinationRow>[] = [
  { name: 'id', type: 'uuid', of: (row) => row.id },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'label', type: 'text', of: (row) => row.label },
  { name: 'type', type: 'text', of: (row) => row.type },
  { name: 'description', type: 'text', of: (row) => row.description },
  { name: 'config', type: 'jsonb', of: (row) => row.config },
  { name: 'retry', type: 'jsonb', of: (row) => row.retry },
  { name: 'limits', type: 'jsonb', of: (row) => row.limits ?? null },
  { name: 'circuit', type: 'jsonb', of: (row) => row.circuit },
  { name: 'is_default', type: 'boolean', of: (row) => row.isDefault },
  { name: 'enabled', type: 'boolean', of: (row) => row.enabled },
  { name: 'disabled_reason', type: 'text', of: (row) => row.disabledReason },
  { name: 'deleted', type: 'boolean', of: (row) => row.deleted },
  { name: 'created_at', type: 'timestamptz', of: (row) => row.createdAt },
  { name: 'updated_at', type: 'timestamptz', of: (row) => row.updatedAt },
];
const writeDefinitions = upsert(
  'destinations',
  definitionColumns,
  ['id'],
  replacing(...definitionColumns.map(({ name }) => name).filter((name) => name !== 'id')),
);

const healthColumns: readonly Column<HealthCounts>[] = [
  { name: 'destination_id', type: 'uuid', of: (row) => row.destinationId },
  { name: 'deliveries', type: 'bigint', of: (row) => row.deliveries },
  { name: 'failures', type: 'bigint', of: (row) => row.failures },
  { name: 'consecutive_failures', type: 'bigint', of: (row) => row.consecutive },
  { name: 'last_success_at', type: 'timestamptz', of: (row) => row.lastSuccessAt },
  { name: 'last_failure_at', type: 'timestamptz', of: (row) => row.lastFailureAt },
  { name: 'response_ms', type: 'bigint', of: (row) => row.responseMs },
];
const adding = (name: string) => `destination_health.${name} + excluded.${name}`;
const addHealth = upsert('destination_health', healthColumns, ['destination_id'], {
  deliveries: adding('deliveries'),
  failures: adding('failures'),
  // A success in the batch ends the row of failures before it; without one, the batch continues it.
  consecutive_failures:
    'case when excluded.last_success_at is null then destination_health.consecutive_failures else 0 end' +
    ' + excluded.consecutive_failures',
  last_success_at: 'greatest(destination_health.last_success_at, excluded.last_success_at)',
  last_failure_at: 'greatest(destination_health.last_failure_at, excluded.last_failure_at)',
  response_ms: adding('response_ms'),
});

export const destinations: Projection = {
  name: 'destinations',
  version: 1,
  tables: ['destinations', 'destination_health'],
  // Failures in a row are counted over all deliveries to a destination.
  isOrdered: true,
  prefixes: [stream.prefix, deliveries.prefix],
  statements(changes) {
    const rows = changes.destinations.map(({ after }) => destinationRow(after));
    const health = healthCounts(changes.deliveries);
    return [
      ...(rows.length === 0 ? [] : [writeDefinitions(rows)]),
      ...(health.length === 0 ? [] : [addHealth(health)]),
    ];
  },
};
