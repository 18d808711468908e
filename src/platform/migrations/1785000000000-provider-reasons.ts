import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Why an attempt went to the provider it went to. */
export class ProviderReasons1785000000000 implements MigrationInterface {
  name = 'ProviderReasons1785000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('alter table attempts add column provider_reason text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter table attempts drop column provider_reason');
  }
}
