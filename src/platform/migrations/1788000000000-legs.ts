import type { MigrationInterface, QueryRunner } from 'typeorm';
import { protect } from './tenant-policy.js';

/** One row for each target of a delivery, and ways to find deliveries by tag, destination and waiting approvals. */
export class Legs1788000000000 implements MigrationInterface {
  name = 'Legs1788000000000';

  async up(runner: QueryRunner): Promise<void> {
    // No index has a column that changes with every attempt, so that updates stay in their page (HOT).
    await runner.query(`
      create table legs (
        delivery_id uuid not null,
        leg integer not null,
        organization_id text not null,
        channel text not null,
        provider text,
        destination_id uuid,
        priority text not null,
        status text not null,
        attempts integer not null,
        requested_at timestamptz(3) not null,
        first_attempt_at timestamptz(3),
        sent_at timestamptz(3),
        due_at timestamptz(3),
        error_category text,
        error_code text,
        dead_lettered boolean not null,
        updated_at timestamptz(3) not null,
        primary key (delivery_id, leg)
      ) with (fillfactor = 60);
      create index legs_by_organization on legs (organization_id, requested_at desc, delivery_id desc, leg);
      create index legs_by_time on legs (requested_at desc, delivery_id desc, leg);
      create index legs_by_due_time on legs (due_at, delivery_id, leg) where due_at is not null;
      create index legs_dead_lettered on legs (requested_at desc, delivery_id desc, leg) where dead_lettered;
      create index attempts_by_time on attempts (started_at);
      create index deliveries_by_tag on deliveries using gin (tags) where tags <> '{}';
      create index deliveries_by_destination on deliveries using gin (destination_ids) where destination_ids <> '{}';
      create index deliveries_awaiting_approval on deliveries (requested_at desc, id desc)
        where holds @> '[{"reason": "approval"}]'`);
    await runner.query(protect('legs'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index deliveries_awaiting_approval;
      drop index deliveries_by_destination;
      drop index deliveries_by_tag;
      drop index attempts_by_time;
      drop table legs`);
  }
}
