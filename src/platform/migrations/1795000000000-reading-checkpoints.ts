import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Queries may see how far the read models are that they read, in the moment in which they read them. */
export class ReadingCheckpoints1795000000000 implements MigrationInterface {
  name = 'ReadingCheckpoints1795000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('grant select on projection_checkpoints to waybill_reader');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('revoke select on projection_checkpoints from waybill_reader');
  }
}
