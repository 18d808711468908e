import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The row of an entry, found by its log position: big-endian bytes are in the order of the numbers. */
export class AuditSearch1784100000000 implements MigrationInterface {
  name = 'AuditSearch1784100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('create index audit_entries_by_position on audit_entries (log, substr(positions, 1, 8))');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop index audit_entries_by_position');
  }
}
