import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What several engines need to share deliveries: who is alive, what is urgent, and who waits for whom. */
export class SeveralEngines1780300000000 implements MigrationInterface {
  name = 'SeveralEngines1780300000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table engine_instances (
        instance text primary key,
        seen_at timestamptz not null
      );
      alter table engine_deliveries add column priority smallint not null default 2;
      create index engine_deliveries_by_priority on engine_deliveries (priority, due_at);
      create index engine_deliveries_by_dependency on engine_deliveries using gin (awaits) where awaits <> '{}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index engine_deliveries_by_dependency;
      drop index engine_deliveries_by_priority;
      alter table engine_deliveries drop column priority;
      drop table engine_instances`);
  }
}
