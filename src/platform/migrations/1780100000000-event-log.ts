import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which event log all the other tables follow from. Until now the engine's owner stood for it. */
export class EventLog1780100000000 implements MigrationInterface {
  name = 'EventLog1780100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table event_log (
        id uuid not null,
        only_one boolean primary key default true check (only_one)
      );
      insert into event_log (id) select owner::uuid from engine_partitions limit 1`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table event_log');
  }
}
