import type { MigrationInterface, QueryRunner } from 'typeorm';
import { protect } from './tenant-policy.js';

/** Who gets nothing any more, and attempts by the id that the provider gave them: how its reports are matched. */
export class Suppressions1787000000000 implements MigrationInterface {
  name = 'Suppressions1787000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table suppressions (
        id uuid primary key,
        organization_id text not null,
        channel text not null,
        address text not null,
        reason text not null,
        since timestamptz(3) not null,
        delivery_id uuid,
        note text,
        by text not null,
        listed boolean not null
      );
      create index suppressions_by_time on suppressions (organization_id, since, id) where listed;
      create index attempts_by_provider_message on attempts (provider_message_id) where provider_message_id is not null`);
    await runner.query(protect('suppressions'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop index attempts_by_provider_message; drop table suppressions');
  }
}
