import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What people did with a leg, so that it can be counted by day and channel. */
export class Engagement1795100000000 implements MigrationInterface {
  name = 'Engagement1795100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table legs add column opens integer not null default 0, add column clicks integer not null default 0,
        add column complaints integer not null default 0, add column opt_outs integer not null default 0`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(
      'alter table legs drop column opens, drop column clicks, drop column complaints, drop column opt_outs',
    );
  }
}
