import type { MigrationInterface, QueryRunner } from 'typeorm';

/** How far status webhooks have come in the log, who wants them, and which instance tells them: one row. */
export class StatusWebhooks1792000000000 implements MigrationInterface {
  name = 'StatusWebhooks1792000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table status_webhook_progress (
        id boolean primary key default true check (id),
        position bigint not null,
        subscribers jsonb not null,
        owner text not null,
        expires_at timestamptz not null
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table status_webhook_progress');
  }
}
