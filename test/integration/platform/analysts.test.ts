import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BadAnalystRole, grantAnalyst, revokeAnalyst } from '../../../src/platform/analysts.js';
import { REPOSITORY } from '../../support/waybill-process.js';
import { failed, newDelivery, requested, sent, World } from '../projections/world.js';

// In a real database, and a program each time, which a busy machine makes slow.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

/** The role of an analyst, as PostgreSQL lets it. Roles belong to the server: others may be testing there too. */
const role = `ana_${process.pid}`;
const other = `bob_${process.pid}`;
const page = readFileSync(join(REPOSITORY, 'docs/analysts.md'), 'utf8');
const questions = [...page.matchAll(/([^\n]+)\n\n```sql\n([\s\S]*?)```/g)].map(
  ([, title, sql]) => [title, sql] as [string, string],
);
let world: World;

const as = async (user: string, query: string) => {
  const client = await world.sql.connect();
  try {
    await client.query(`begin; set local role ${user}; set local search_path = waybill_analytics`);
    return (await client.query(query)).rows;
  } finally {
    await client.query('rollback');
    client.release();
  }
};

beforeAll(async () => {
  world = await World.create();
  for (const organizationId of ['ours', 'ours', 'theirs']) {
    const { stream } = newDelivery();
    await world.record(stream, requested({ organizationId, tags: ['t'], slaSeconds: 60 }), ...failed(1), sent(2, 20));
  }
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
  await grantAnalyst(world.database, { role, organizations: ['ours'] });
});
afterAll(async () => {
  for (const name of [role, other])
    await world.rows(`do $$ begin if exists (select from pg_roles where rolname = '${name}') then
      drop owned by ${name}; drop role ${name}; end if; end $$`);
  await world.close();
});

describe('an analyst', () => {
  it('sees the rows of the organizations that were given, in every view', async () => {
    const views = (await world.rows(`select viewname from pg_views where schemaname = 'waybill_analytics'`)).map(
      ({ viewname }) => viewname,
    );
    expect(views).toHaveLength(7);
    for (const view of views) {
      const rows = await as(role, `select * from ${view}`);
      if (view !== 'destinations') expect(rows.length, String(view)).toBeGreaterThan(0);
      for (const row of rows) expect(row.organization_id).toBe('ours');
    }
    expect(await as(role, 'select count(*)::integer as n from deliveries')).toEqual([{ n: 2 }]);
  });

  it('gets the figures of the dashboard, column by column', async () => {
    expect(await as(role, 'select * from enterprise_delivery_dashboard')).toEqual([
      {
        ...{ organization_id: 'ours', day: new Date('2026-03-02T00:00:00Z'), delivery_channel: 'WEBHOOK' },
        ...{ total_deliveries: '2', successful_deliveries: '2', failed_deliveries: '0', pending_deliveries: '0' },
        ...{ avg_processing_time: '1.000', avg_delivery_time: '20.000', sla_compliance: '1.0000' },
        ...{ error_categories: ['NETWORK'], total_recipients: '2', high_priority_deliveries: '0' },
      },
    ]);
  });

  it.each([
    'select * from public.deliveries',
    'select * from waybill_analytics.scopes',
    'select * from waybill_keys.data_keys',
    `insert into waybill_analytics.scopes values (current_user, '*')`,
    'delete from waybill_analytics.deliveries',
  ])('may not: %s', async (query) => {
    await expect(as(role, query)).rejects.toThrow(/permission denied|does not exist|cannot delete/);
  });

  it('finds nothing personal and nothing sealed in any column', async () => {
    const columns = await world.rows(
      `select distinct column_name as name from information_schema.columns where table_schema = 'waybill_analytics'`,
    );
    const names = columns.map(({ name }) => String(name));
    expect(names.length).toBeGreaterThan(40);
    for (const name of [
      'metadata',
      'config',
      'holds',
      'subjects',
      'address',
      'correlation_id',
      'idempotency_key',
      'warning',
      'provider_message_id',
      'provider_reason',
      'error',
    ])
      expect(names).not.toContain(name);
  });

  it.each(questions)('is answered: %s', async (_, sql) => {
    expect(questions).toHaveLength(7);
    // What the page asks of these days was long ago here.
    await as(role, sql);
    await as(role, sql.replaceAll('now()', `timestamptz '2026-03-03'`).replaceAll('current_date', `date '2026-03-03'`));
  });

  it('sees what is new after a read model was rebuilt', async () => {
    const runner = world.runner();
    runner.start();
    for (const name of ['deliveries', 'legs', 'dashboard']) {
      await runner.rebuild(name);
      await world.until(() => runner.progress().some((one) => one.name === name && one.rebuild?.state === 'done'));
    }
    const { stream } = newDelivery();
    await world.record(stream, requested({ organizationId: 'ours' }), sent());
    await world.shown(runner);
    expect(await as(role, 'select count(*)::integer as n from deliveries')).toEqual([{ n: 3 }]);
    expect(await as(role, 'select count(*)::integer as n from legs')).toEqual([{ n: 3 }]);
    expect(await as(role, 'select total_deliveries from enterprise_delivery_dashboard')).toEqual([
      { total_deliveries: '3' },
    ]);
  });
});

describe('the role', () => {
  const cli = (...args: string[]): Promise<{ code: number; out: string; error: string }> =>
    new Promise((resolve) => {
      const env = { ...process.env, DATABASE_URL: world.server.url };
      const program = join(REPOSITORY, 'bin/waybill.mjs');
      execFile(process.execPath, [program, 'database', 'analyst-role', ...args], { env }, (failure, out, error) =>
        resolve({ code: failure ? Number(failure.code) : 0, out, error }),
      );
    });

  it('is made by a command, reads only, and is taken back', async () => {
    const made = JSON.parse((await cli(other, '--all-organizations', '--json')).out) as { password: string };
    expect(made).toEqual({ role: other, organizations: 'all', password: expect.stringMatching(/^[\w-]{32}$/) });
    expect(await as(other, 'select distinct organization_id as id from legs order by 1')).toEqual([
      { id: 'ours' },
      { id: 'theirs' },
    ]);
    expect(
      await world.rows('select rolconfig as settings, rolconnlimit as n from pg_roles where rolname = $1', [other]),
    ).toEqual([
      {
        settings: ['default_transaction_read_only=on', 'statement_timeout=60s', 'search_path=waybill_analytics'],
        n: 5,
      },
    ]);
    expect(await grantAnalyst(world.database, { role: other, organizations: ['theirs'] })).toBeUndefined();
    expect(await as(other, 'select distinct organization_id as id from legs')).toEqual([{ id: 'theirs' }]);
    const roles = `select rolname as name from pg_roles where pg_has_role($1, oid, 'member') and rolname <> $1`;
    expect(await world.rows(roles, [other])).toEqual([]);
    await revokeAnalyst(world.database, other);
    await expect(as(other, 'select * from waybill_analytics.legs')).rejects.toThrow('permission denied');
    expect(await cli(other)).toMatchObject({ code: 1, error: expect.stringContaining('Say one of') });
  });

  it.each(['postgres; drop table deliveries', 'pg_monitor', 'waybill_reader', 'Ana', ''])(
    'cannot be called %s',
    async (name) => {
      await expect(grantAnalyst(world.database, { role: name, organizations: 'all' })).rejects.toBeInstanceOf(
        BadAnalystRole,
      );
    },
  );

  it('cannot be one that others have made stronger, nor be taken from those who never had it', async () => {
    await expect(revokeAnalyst(world.database, 'nobody_here')).rejects.toBeInstanceOf(BadAnalystRole);
    await world.rows(`create role ${other}_s bypassrls`);
    try {
      await expect(grantAnalyst(world.database, { role: `${other}_s`, organizations: 'all' })).rejects.toThrow(
        'more than read',
      );
    } finally {
      await world.rows(`drop role ${other}_s`);
    }
  });
});
