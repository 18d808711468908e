import type { MigrationInterface, QueryRunner } from 'typeorm';
import { protect } from './tenant-policy.js';

/** Read models show each organization its own rows only: a role to read as, and policies on what it reads. */
export class TenantPolicies1781000000000 implements MigrationInterface {
  name = 'TenantPolicies1781000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(ROLE);
    await runner.query('grant usage on schema public to waybill_reader');
    await runner.query(VISIBLE);
    for (const table of ['deliveries', 'attempts', 'destinations', 'dashboard_hours'])
      await runner.query(protect(table));
    await runner.query(protect('destination_health', 'destination_is_visible(destination_id)'));
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['deliveries', 'attempts', 'destinations', 'dashboard_hours', 'destination_health'])
      await runner.query(`
        drop policy tenant on ${table};
        alter table ${table} disable row level security;
        revoke select on ${table} from waybill_reader`);
    await runner.query('drop function destination_is_visible');
  }
}

/**
 * Roles belong to the server, not to the database: somebody else may have made it, or may be making it now. Where our
 * own account may not make roles, an administrator of the server has to, once.
 */
const ROLE = `
  do $$ begin
    if not exists (select from pg_roles where rolname = 'waybill_reader') then
      begin
        create role waybill_reader nologin;
      exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then
          raise exception 'the role waybill_reader is missing: let an administrator of the server run'
            ' "create role waybill_reader nologin; grant waybill_reader to %"', current_user;
      end;
    end if;
    begin
      set local role waybill_reader;
      set local role none;
    exception when insufficient_privilege then
      grant waybill_reader to current_user;
    end;
  end $$`;

/** Looks the table up by name at each call, so that it means the version that is live then. */
const VISIBLE = `
  create function destination_is_visible(wanted uuid) returns boolean language plpgsql stable as
    'begin return exists (select from destinations d where d.id = wanted); end'`;
