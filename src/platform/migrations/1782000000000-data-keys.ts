import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The keys of personal data, wrapped. A schema of its own: unlike everything else in the database they follow from
 * nothing, and nobody who makes read models anew may come across them.
 */
export class DataKeys1782000000000 implements MigrationInterface {
  name = 'DataKeys1782000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create schema waybill_keys;
      create table waybill_keys.installation (
        is_only boolean primary key default true check (is_only),
        id uuid not null,
        key_version integer not null,
        wrapped_secret bytea not null,
        accepts_missing boolean not null
      );
      create table waybill_keys.key_encryption_keys (
        version integer primary key,
        kms_key text not null,
        wrapped bytea not null,
        created_at timestamptz(3) not null default now()
      );
      create table waybill_keys.data_keys (
        id text primary key,
        subject text not null,
        organization_id text not null,
        members text[],
        key_version integer not null,
        wrapped bytea,
        created_at timestamptz(3) not null default now(),
        destroyed_at timestamptz(3),
        check ((wrapped is null) = (destroyed_at is not null))
      );
      create unique index data_keys_of_subject on waybill_keys.data_keys (subject) where destroyed_at is null;
      create index data_keys_of_member on waybill_keys.data_keys using gin (members) where members is not null;
      create index data_keys_by_version on waybill_keys.data_keys (key_version, id) where destroyed_at is null;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop schema waybill_keys cascade');
  }
}
