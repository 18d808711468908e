import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What operators do about parked events, and how often something was tried that never came back. */
export class Parking1783100000000 implements MigrationInterface {
  name = 'Parking1783100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table parked_events
        add column attempts integer not null default 1,
        add column is_wanted boolean not null default false,
        add column skipped_at timestamptz(3),
        add column skipped_by text,
        add column skip_reason text;
      alter table projection_checkpoints
        add column tried bigint,
        add column tries integer not null default 0,
        add column suspect bigint,
        add column suspect_tries integer not null default 0`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      delete from parked_events where skipped_at is not null;
      alter table parked_events drop column attempts, drop column is_wanted, drop column skipped_at,
        drop column skipped_by, drop column skip_reason;
      alter table projection_checkpoints drop column tried, drop column tries, drop column suspect,
        drop column suspect_tries`);
  }
}
