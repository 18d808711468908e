import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Finds the keys whose time is over: by organization, class and week, as their subjects name them. */
export class Retention1793000000000 implements MigrationInterface {
  name = 'Retention1793000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create index data_keys_kept on waybill_keys.data_keys
        (organization_id, split_part(subject, ':', 3), split_part(subject, ':', 2), id)
        where destroyed_at is null and subject like 'kept:%';`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop index waybill_keys.data_keys_kept');
  }
}
