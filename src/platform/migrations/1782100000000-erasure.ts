import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whom a delivery is to, so that it is found again by a person's address; how far erasures were followed. */
export class Erasure1782100000000 implements MigrationInterface {
  name = 'Erasure1782100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table deliveries add column subjects text[] not null default '{}';
      create index deliveries_by_subject on deliveries using gin (subjects) where subjects <> '{}';
      alter table waybill_keys.installation
        add column erasures_log text not null default '', add column erasures_position bigint not null default 0;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table deliveries drop column subjects;
      alter table waybill_keys.installation drop column erasures_log, drop column erasures_position;`);
  }
}
