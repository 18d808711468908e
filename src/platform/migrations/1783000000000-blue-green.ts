import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A rebuild makes a second version of a read model beside the one that is asked, and keeps the old one for a while. */
export class BlueGreen1783000000000 implements MigrationInterface {
  name = 'BlueGreen1783000000000';

  async up(runner: QueryRunner): Promise<void> {
    // One that an older program has begun was emptying the live tables: they go on from where they are.
    await runner.query(`
      update projection_rebuilds set state = 'failed', finished_at = now() where state = 'running';
      alter table projection_rebuilds
        drop constraint projection_rebuilds_state_check,
        add constraint projection_rebuilds_state_check check (state in ('running', 'done', 'failed', 'cancelled')),
        add column kind text not null default 'rebuild' check (kind in ('rebuild', 'verify', 'rollback')),
        add column phase text not null default 'building'
          check (phase in ('building', 'indexing', 'verifying', 'switching')),
        add column comparison text check (comparison in ('equal', 'different')),
        add column reason text,
        add column events_per_second integer;
      create table projection_kept (
        name text primary key,
        kept_at timestamptz(3) not null default now(),
        drop_after timestamptz(3) not null
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop table projection_kept;
      delete from projection_rebuilds where state = 'cancelled';
      alter table projection_rebuilds
        drop constraint projection_rebuilds_state_check,
        add constraint projection_rebuilds_state_check check (state in ('running', 'done', 'failed')),
        drop column kind, drop column phase, drop column comparison, drop column reason,
        drop column events_per_second`);
  }
}
