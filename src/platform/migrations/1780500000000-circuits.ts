import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whether a destination is called for now, and how often it may be called. */
export class Circuits1780500000000 implements MigrationInterface {
  name = 'Circuits1780500000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('alter table destinations add column circuit jsonb, add column limits jsonb');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter table destinations drop column circuit, drop column limits');
  }
}
