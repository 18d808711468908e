import type { Projection } from '../projection.js';
import type { Connection } from './connection.js';
import { keyOf, type Role, schemaOf } from './member.js';

/**
 * The versions of a read model: each in a schema of its own, the live one in the schema that all queries look into.
 * Versions change places by moving tables between schemas, which keeps everything that is a table's own: a query finds
 * one version or the other, whole.
 */

type Beside = Exclude<Role, 'live'>;

/** Makes empty tables like the live ones, with their primary keys; the other indexes come when the rows are there. */
export async function createTables(connection: Connection, { name, tables }: Projection): Promise<void> {
  const schema = schemaOf(name, 'building');
  await connection.execute(`drop schema if exists ${schema} cascade`);
  await connection.execute(`create schema ${schema}`);
  for (const table of tables) {
    await connection.execute(
      `create table ${schema}.${table} (like ${table} including all excluding indexes excluding statistics)`,
    );
    for (const statement of await ownWays(connection, table, `${schema}.${table}`)) await connection.execute(statement);
  }
}

/** What `like` leaves behind: storage parameters, the primary key, who may do what, and row security. */
async function ownWays(connection: Connection, table: string, copy: string): Promise<string[]> {
  const rows = await connection.query<{ statement: string }>(
    `select format('alter table ${copy} set (%s)', array_to_string(reloptions, ', ')) as statement
     from pg_class where oid = to_regclass($1) and reloptions is not null
     union all
     select format('alter table ${copy} add constraint %I %s', conname, pg_get_constraintdef(oid))
     from pg_constraint where conrelid = to_regclass($1) and contype = 'p'
     union all
     select format('grant %s on ${copy} to %s', privilege_type,
                   case grantee when 0 then 'public' else grantee::regrole::text end)
     from pg_class, aclexplode(relacl) where oid = to_regclass($1) and grantee <> relowner
     union all
     select format('alter table ${copy} enable row level security') from pg_class
     where oid = to_regclass($1) and relrowsecurity
     union all
     select format('alter table ${copy} force row level security') from pg_class
     where oid = to_regclass($1) and relforcerowsecurity
     union all
     select format('create policy %I on ${copy} as %s for %s to %s', polname,
                   case when polpermissive then 'permissive' else 'restrictive' end,
                   case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                               when 'd' then 'delete' else 'all' end,
                   case when polroles = '{0}' then 'public'
                        else (select string_agg(r::regrole::text, ', ') from unnest(polroles) r) end)
            || coalesce(' using (' || pg_get_expr(polqual, polrelid) || ')', '')
            || coalesce(' with check (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
     from pg_policy where polrelid = to_regclass($1)`,
    [table],
  );
  return rows.map(({ statement }) => statement);
}

/** Whether the tables of a version have the columns of the live ones: a migration may have come between. */
export async function isAlike(connection: Connection, { name, tables }: Projection, role: Beside): Promise<boolean> {
  const columns = `select attname, atttypid, atttypmod, attnotnull from pg_attribute
    where attnum > 0 and not attisdropped and attrelid =`;
  for (const table of tables) {
    const [difference] = await connection.query(
      `select from (${columns} to_regclass($1)) live full join (${columns} to_regclass($2)) other
         using (attname, atttypid, atttypmod, attnotnull) where live is null or other is null limit 1`,
      [table, `${schemaOf(name, role)}.${table}`],
    );
    if (difference) return false;
  }
  return true;
}

/** Gives the new tables the indexes of the live ones, under the same names. What is there already stays. */
export async function createIndexes(connection: Connection, { name, tables }: Projection): Promise<void> {
  for (const table of tables) {
    const copy = `${schemaOf(name, 'building')}.${table}`;
    const indexes = await connection.query<{ definition: string }>(
      `select pg_get_indexdef(indexrelid) as definition from pg_index
       where indrelid = to_regclass($1) and not indisprimary order by indexrelid`,
      [table],
    );
    for (const { definition } of indexes)
      await connection.execute(
        definition
          .replace(/^CREATE (UNIQUE )?INDEX /, 'CREATE $1INDEX IF NOT EXISTS ')
          .replace(/ ON \S+ USING /, ` ON ${copy} USING `),
      );
    await connection.execute(`analyze ${copy}`);
  }
}

/**
 * Makes a version the live one, and the live one the kept one. Part of a transaction, which is to have a lock timeout:
 * queries that begin meanwhile wait for it.
 */
export async function exchange(connection: Connection, projection: Projection, incoming: Beside): Promise<void> {
  const { name, tables } = projection;
  const [kept, live] = [schemaOf(name, 'kept'), await liveSchema(connection)];
  const between = `waybill_moving_${name}`;
  // What belongs to the three versions changes its name with them.
  for (const [table, column] of [
    ['projection_checkpoints', 'name'],
    ['parked_events', 'projection'],
  ]) {
    const rename = (from: string, to: string) =>
      connection.execute(`update ${table} set ${column} = $2 where ${column} = $1`, [from, to]);
    await rename(keyOf(name, incoming), between);
    await connection.execute(`delete from ${table} where ${column} = $1`, [keyOf(name, 'kept')]);
    await rename(name, keyOf(name, 'kept'));
    await rename(between, name);
  }
  await connection.execute(
    `insert into parked_events (projection, position, stream, type, error, skipped_at, skipped_by, skip_reason)
     select $1, position, stream, type, error, skipped_at, skipped_by, skip_reason from parked_events
     where projection = $2 and skipped_at is not null on conflict do nothing`,
    [name, keyOf(name, 'kept')],
  );
  await connection.execute(
    `lock table ${tables.map((table) => `${live}.${table}`).join(', ')} in access exclusive mode`,
  );
  const views = await viewsOf(connection, tables);
  const move = async (from: string, to: string) => {
    for (const table of tables) await connection.execute(`alter table ${from}.${table} set schema ${to}`);
  };
  await connection.execute(`create schema ${between}`);
  await move(schemaOf(name, incoming), between);
  await connection.execute(`drop schema if exists ${kept} cascade`);
  await connection.execute(`create schema ${kept}`);
  await move(live, kept);
  await move(between, live);
  await connection.execute(`drop schema ${between}`);
  await connection.execute(`drop schema if exists ${schemaOf(name, 'building')} cascade`);
  for (const view of views) await connection.execute(view);
}

/** Statements that make the views on these tables again, to be run when the names mean other tables. */
async function viewsOf(connection: Connection, tables: readonly string[]): Promise<string[]> {
  const rows = await connection.query<{ statement: string }>(
    `select format('create or replace view %s %s as %s', v.oid::regclass,
                   coalesce('with (' || array_to_string(v.reloptions, ', ') || ')', ''),
                   pg_get_viewdef(v.oid)) as statement
     from pg_class v
     where v.relkind = 'v' and exists (
       select from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
       where r.ev_class = v.oid and d.refclassid = 'pg_class'::regclass
         and d.refobjid in (select to_regclass(t) from unnest($1::text[]) t))`,
    [tables],
  );
  return rows.map(({ statement }) => statement);
}

/** Forgets the version that was being made. */
export async function dropBuilding(connection: Connection, name: string): Promise<void> {
  await dropVersion(connection, name, 'building');
}

/** Whoever drops a version holds the writer's lease, and may not wait for a reader longer than that lasts. */
const DROP_LOCK_MS = 1_000;
const LOCK_NOT_AVAILABLE = '55P03';

/** Drops what was kept long enough, unless somebody reads it for long: then next time. @returns the projections it was of */
export async function dropExpired(connection: Connection): Promise<string[]> {
  try {
    return await drop(connection);
  } catch (error) {
    if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE) throw error;
    return [];
  }
}

async function drop(connection: Connection): Promise<string[]> {
  return await connection.transaction(async () => {
    await connection.execute(`set local lock_timeout = ${DROP_LOCK_MS}`);
    const expired = await connection.query<{ name: string }>(
      `delete from projection_kept k where drop_after <= now()
         and not exists (select from projection_rebuilds r where r.name = k.name and r.state = 'running')
       returning name`,
    );
    for (const { name } of expired) await dropVersion(connection, name, 'kept');
    return expired.map(({ name }) => name);
  });
}

async function dropVersion(connection: Connection, name: string, role: Beside): Promise<void> {
  // First what every batch takes first, so that nobody waits for each other.
  await connection.execute('delete from projection_checkpoints where name = $1', [keyOf(name, role)]);
  await connection.execute('delete from parked_events where projection = $1', [keyOf(name, role)]);
  await connection.execute(`drop schema if exists ${schemaOf(name, role)} cascade`);
}

async function liveSchema(connection: Connection): Promise<string> {
  const [row] = await connection.query<{ schema: string }>(
    `select relnamespace::regnamespace::text as schema from pg_class where oid = to_regclass('projection_checkpoints')`,
  );
  if (!row) throw new Error('there is no table projection_checkpoints');
  return row.schema;
}
