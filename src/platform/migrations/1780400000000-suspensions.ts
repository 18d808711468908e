import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What operators look for: deliveries whose process has thrown, and attempts that wait for somebody to say how they ended. */
export class Suspensions1780400000000 implements MigrationInterface {
  name = 'Suspensions1780400000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table engine_suspensions (
        delivery_id uuid primary key,
        partition smallint not null,
        organization_id text not null,
        position bigint not null,
        event_type text not null,
        error text not null,
        attempts integer not null,
        suspended_at timestamptz(3)
      );
      create index engine_suspensions_by_time on engine_suspensions (suspended_at, delivery_id)
        where suspended_at is not null;
      create index attempts_in_doubt on attempts (started_at, delivery_id, leg) where status = 'IN_DOUBT'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop index attempts_in_doubt; drop table engine_suspensions');
  }
}
