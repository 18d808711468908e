import { randomBytes } from 'node:crypto';
import type { DataSource, QueryRunner } from 'typeorm';

/** What a role of analysts is called: a name that needs no quotes, and none of PostgreSQL's own. */
const ROLE = /^(?!pg_|waybill)[a-z][a-z0-9_]{0,62}$/;
const ORGANIZATION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** What one query of an analyst may take from the others. */
const STATEMENT_TIMEOUT = '60s';
const CONNECTIONS = 5;

export interface AnalystGrant {
  readonly role: string;
  /** Nothing else is seen; `all` means those to come as well. */
  readonly organizations: readonly string[] | 'all';
}

/** Something about the role that an operator can put right, in one line. */
export class BadAnalystRole extends Error {
  override name = 'BadAnalystRole';
}

/**
 * Makes a role that may read the views for analysts (schema waybill_analytics) and nothing else, or gives an existing one
 * other organizations. It logs in by password, is read-only, and may wait 60 s for an answer.
 *
 * @returns the password, when the role is new; it is kept nowhere
 * @throws BadAnalystRole
 */
export async function grantAnalyst(
  database: DataSource,
  { role, organizations }: AnalystGrant,
): Promise<string | undefined> {
  check(role);
  for (const organization of organizations === 'all' ? [] : organizations)
    if (!ORGANIZATION.test(organization))
      throw new BadAnalystRole(`${organization} is not the name of an organization.`);
  if (organizations.length === 0) throw new BadAnalystRole('Name at least one organization.');
  return await inTransaction(database, async (runner) => {
    const password = (await exists(runner, role)) ? undefined : await make(runner, role);
    await runner.query(`grant usage on schema waybill_analytics to ${role}`);
    for (const { view } of await views(runner))
      await runner.query(`grant select on waybill_analytics.${view} to ${role}`);
    await runner.query('delete from waybill_analytics.scopes where role_name = $1', [role]);
    await runner.query('insert into waybill_analytics.scopes select $1, unnest($2::text[])', [
      role,
      organizations === 'all' ? ['*'] : [...new Set(organizations)],
    ]);
    return password;
  });
}

/** Takes everything from a role that was given here; the role itself stays, without a way in. @throws BadAnalystRole */
export async function revokeAnalyst(database: DataSource, role: string): Promise<void> {
  check(role);
  await inTransaction(database, async (runner) => {
    const [, removed] = await runner.query('delete from waybill_analytics.scopes where role_name = $1', [role]);
    if (removed === 0) throw new BadAnalystRole(`${role} is no role of analysts here.`);
    await runner.query(`revoke all on all tables in schema waybill_analytics from ${role}`);
    await runner.query(`revoke usage on schema waybill_analytics from ${role}`);
    await runner.query(`alter role ${role} nologin`);
  });
}

function check(role: string): void {
  if (!ROLE.test(role))
    throw new BadAnalystRole(
      `${role} cannot be a role of analysts: lower-case letters, digits and underscores, not pg_… and not waybill….`,
    );
}

/** A role that others made may be more than it seems: it must not be one that sees more by itself. */
async function exists(runner: QueryRunner, role: string): Promise<boolean> {
  const [found]: { isStrong: boolean }[] = await runner.query(
    `select rolsuper or rolbypassrls or rolcreaterole or pg_has_role(oid, current_user, 'member') as "isStrong"
     from pg_roles where rolname = $1`,
    [role],
  );
  if (found?.isStrong) throw new BadAnalystRole(`${role} may do more than read: take another name.`);
  return found !== undefined;
}

async function make(runner: QueryRunner, role: string): Promise<string> {
  const password = randomBytes(24).toString('base64url');
  await runner.query(`create role ${role} login password '${password}' connection limit ${CONNECTIONS}`);
  await runner.query(`alter role ${role} set default_transaction_read_only = on`);
  await runner.query(`alter role ${role} set statement_timeout = '${STATEMENT_TIMEOUT}'`);
  await runner.query(`alter role ${role} set search_path = waybill_analytics`);
  return password;
}

const views = (runner: QueryRunner): Promise<{ view: string }[]> =>
  runner.query(`select viewname as view from pg_views where schemaname = 'waybill_analytics'`);

async function inTransaction<Result>(database: DataSource, work: (runner: QueryRunner) => Promise<Result>) {
  const runner = database.createQueryRunner();
  await runner.startTransaction();
  try {
    const result = await work(runner);
    await runner.commitTransaction();
    return result;
  } catch (error) {
    await runner.rollbackTransaction().catch(() => undefined);
    if ((error as { code?: string }).code === '42501')
      throw new BadAnalystRole(
        'The account of DATABASE_URL may not make roles: give it CREATEROLE, or use one that may.',
      );
    throw error;
  } finally {
    await runner.release();
  }
}
