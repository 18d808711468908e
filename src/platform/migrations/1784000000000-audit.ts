import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The audit trail's own tables. Hashes and positions lie 256 to a row: a row for each entry would cost Postgres ten
 * times as much. They do not compress, so nobody tries.
 */
export class Audit1784000000000 implements MigrationInterface {
  name = 'Audit1784000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table audit_writer (
        only_one boolean primary key default true check (only_one),
        owner text not null,
        epoch bigint not null,
        expires_at timestamptz not null
      );
      create table audit_trees (
        log uuid primary key,
        size bigint not null,
        position bigint not null,
        chain bytea not null
      );
      create table audit_entries (
        log uuid not null,
        row_number bigint not null,
        positions bytea not null,
        hashes bytea not null,
        chain bytea not null,
        keys text[] not null,
        first_at timestamptz not null,
        last_at timestamptz not null,
        primary key (log, row_number)
      );
      alter table audit_entries alter positions set storage external, alter hashes set storage external;
      create index audit_entries_by_key on audit_entries using gin (keys);
      create index audit_entries_by_time on audit_entries (log, last_at);
      create table audit_nodes (
        log uuid not null,
        level smallint not null,
        row_number bigint not null,
        hashes bytea not null,
        primary key (log, level, row_number)
      );
      alter table audit_nodes alter hashes set storage external;
      create table audit_checkpoints (
        log uuid not null,
        size bigint not null,
        note text not null,
        primary key (log, size)
      );
      create table audit_keys (
        verifier text primary key
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(
      'drop table audit_keys, audit_checkpoints, audit_nodes, audit_entries, audit_trees, audit_writer',
    );
  }
}
