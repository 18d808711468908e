import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Read models, their bookkeeping, and the delivery engine's own tables. All of it can be made again from the log. */
export class FirstTables1780000000000 implements MigrationInterface {
  name = 'FirstTables1780000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(READ_MODELS);
    await runner.query(BOOKKEEPING);
    await runner.query(ENGINE);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table deliveries, attempts, destinations, destination_health, dashboard_hours,
        projection_checkpoints, projection_rebuilds, parked_events, engine_partitions, engine_deliveries`);
  }
}

/**
 * Half of each page is left free for the update that nearly every delivery gets soon after it is inserted: the new row
 * stays in its page and no index is touched (HOT). Measured: 14 instead of 21 µs per update, and the same size on disk.
 */
const ROOM_FOR_UPDATES = 'with (fillfactor = 48)';

const counters = [
  ...['total', 'delivered', 'failed', 'pending', 'recipients', 'high_priority', 'processing_ms', 'processing_count'],
  ...['delivery_ms', 'delivery_count', 'sla_met', 'sla_counted', 'error_temporary', 'error_permanent'],
  ...['error_rate_limit', 'error_authentication', 'error_configuration', 'error_validation', 'error_network'],
  'error_system',
];

// timestamptz(3): cursors carry milliseconds, and what they are compared with must not be finer.
const READ_MODELS = `
  create table deliveries (
    id uuid primary key,
    organization_id text not null,
    status text not null,
    priority text not null,
    legs jsonb not null,
    holds jsonb not null,
    tags text[] not null,
    metadata jsonb,
    correlation_id text,
    idempotency_key text,
    channels text[] not null,
    destination_ids uuid[] not null,
    dead_lettered boolean not null,
    requested_at timestamptz(3) not null,
    scheduled_at timestamptz(3),
    expires_at timestamptz(3),
    completed_at timestamptz(3),
    updated_at timestamptz(3) not null,
    revision integer not null,
    position bigint not null
  ) ${ROOM_FOR_UPDATES};
  create index deliveries_by_organization on deliveries (organization_id, requested_at desc, id desc);
  create index deliveries_by_time on deliveries (requested_at desc, id desc);
  create index deliveries_dead_lettered on deliveries (requested_at desc, id desc) where dead_lettered;
  create index deliveries_by_correlation on deliveries (correlation_id) where correlation_id is not null;

  create table attempts (
    delivery_id uuid not null,
    leg integer not null,
    number integer not null,
    organization_id text not null,
    route integer not null,
    channel text not null,
    provider text not null,
    destination_id uuid,
    status text not null,
    started_at timestamptz(3) not null,
    completed_at timestamptz(3),
    error jsonb,
    provider_message_id text,
    warning text,
    primary key (delivery_id, leg, number)
  ) with (fillfactor = 90);

  create table destinations (
    id uuid primary key,
    organization_id text not null,
    label text not null,
    type text not null,
    description text,
    config jsonb not null,
    retry jsonb,
    is_default boolean not null,
    enabled boolean not null,
    disabled_reason text,
    deleted boolean not null,
    created_at timestamptz(3) not null,
    updated_at timestamptz(3) not null
  );
  create index destinations_by_organization on destinations (organization_id, label) where not deleted;

  create table destination_health (
    destination_id uuid primary key,
    deliveries bigint not null,
    failures bigint not null,
    consecutive_failures bigint not null,
    last_success_at timestamptz(3),
    last_failure_at timestamptz(3),
    response_ms bigint not null
  ) with (fillfactor = 50);

  create table dashboard_hours (
    organization_id text not null,
    hour timestamptz(3) not null,
    channel text not null,
    ${counters.map((counter) => `${counter} bigint not null`).join(',\n    ')},
    primary key (organization_id, hour, channel)
  ) with (fillfactor = 50);
  create index dashboard_hours_by_hour on dashboard_hours (hour);`;

const BOOKKEEPING = `
  create table projection_checkpoints (
    name text primary key,
    version integer not null,
    position bigint not null
  ) with (fillfactor = 10);

  create table projection_rebuilds (
    id uuid primary key,
    name text not null,
    state text not null check (state in ('running', 'done', 'failed')),
    processed bigint not null,
    total bigint not null,
    started_at timestamptz(3) not null,
    finished_at timestamptz(3)
  );
  create unique index one_rebuild_at_a_time on projection_rebuilds (name) where state = 'running';

  create table parked_events (
    projection text not null,
    position bigint not null,
    stream text not null,
    type text not null,
    error text not null,
    parked_at timestamptz(3) not null default now(),
    primary key (projection, position)
  );`;

const ENGINE = `
  create table engine_partitions (
    partition smallint primary key,
    owner text not null,
    epoch bigint not null,
    expires_at timestamptz not null,
    position bigint not null
  ) with (fillfactor = 50);

  create table engine_deliveries (
    delivery_id uuid primary key,
    partition smallint not null,
    due_at timestamptz,
    awaits uuid[] not null default '{}'
  );
  create index engine_deliveries_by_due_time on engine_deliveries (due_at);`;
