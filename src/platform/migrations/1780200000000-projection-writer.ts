import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which of several instances writes the read models. Every checkpoint knows the epoch of the one that may move it. */
export class ProjectionWriter1780200000000 implements MigrationInterface {
  name = 'ProjectionWriter1780200000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table projection_writer (
        owner text not null,
        epoch bigint not null,
        backend integer not null,
        expires_at timestamptz not null,
        health jsonb not null default '[]',
        only_one boolean primary key default true check (only_one)
      ) with (fillfactor = 10);
      alter table projection_checkpoints add column epoch bigint not null default 0`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table projection_checkpoints drop column epoch;
      drop table projection_writer`);
  }
}
