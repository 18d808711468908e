import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import { projections } from '../../../src/projections/registry.js';
import { beginAs } from '../../../src/projections/tenant-reads.js';
import { HOOK, inboxed, newDelivery, requested, sent, suppressed, World } from './world.js';

/** Postgres itself keeps tenants apart: what is asked here has no condition of its own. */
const MINE = randomUUID();
const THEIRS = randomUUID();
let world: World;

beforeAll(async () => {
  world = await World.create();
  for (const [organizationId, hook] of [
    [MINE, HOOK],
    [THEIRS, randomUUID()],
  ] as const) {
    const definition = {
      ...{ organizationId, label: 'hook', type: 'WEBHOOK', config: {}, secrets: {}, isDefault: true },
    } as const;
    await world.record(`destination-${hook}`, {
      type: 'DestinationCreated',
      at: '2026-03-02T11:00:00.000Z',
      data: definition,
    });
    const legs = [{ leg: 1, routes: [{ channel: 'WEBHOOK' as const, destinationId: hook }], recipients: 1 }];
    const { stream } = newDelivery();
    await world.record(stream, requested({ organizationId, legs }), sent());
    await world.record(`suppression-${randomUUID()}`, suppressed(organizationId));
    await world.record(`inbox-${randomUUID()}`, inboxed(organizationId));
  }
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
});
afterAll(() => world.close());

const tables = projections.flatMap((projection) => projection.tables);

const rowsSeenBy = (organizations: Organizations, table: string): Promise<Record<string, unknown>[]> =>
  world.reads.as(organizations, (runner) => runner.query(`select * from ${table}`));

describe.each(tables)('table %s', (table) => {
  it('is protected', async () => {
    const [row] = await world.rows(
      `select relrowsecurity, (select count(*)::int from pg_policy where polrelid = c.oid and polname = 'tenant') as policies
       from pg_class c where oid = to_regclass($1)`,
      [table],
    );
    expect(row).toEqual({ relrowsecurity: true, policies: 1 });
  });

  it('shows each organization its own rows, all of them to whoever spans them, and none to whoever names none', async () => {
    const all = await rowsSeenBy('all', table);
    expect(all.length).toBeGreaterThan(0);
    const mine = await rowsSeenBy([MINE], table);
    const theirs = await rowsSeenBy([THEIRS], table);
    expect(mine.length + theirs.length).toBe(all.length);
    for (const row of mine) expect(row.organization_id ?? MINE).toBe(MINE);
    expect(await rowsSeenBy([MINE, THEIRS], table)).toHaveLength(all.length);
    expect(await rowsSeenBy([], table)).toEqual([]);
    expect(await rowsSeenBy([randomUUID()], table)).toEqual([]);
  });

  it('is not to be changed by readers', async () => {
    const change = world.reads.as('all', (runner) => runner.query(`delete from ${table}`));
    await expect(change).rejects.toThrow(/permission denied|read-only transaction/);
  });
});

it.each([`x' or true --`, `a,*`, '*', `${MINE}'; reset role; --`, ''])(
  'an organization called %j reaches nothing',
  async (name) => {
    expect(beginAs([name])).toBe(
      `begin read only; set local role waybill_reader; set local waybill.organizations = ''`,
    );
    expect(await rowsSeenBy([name], 'deliveries')).toEqual([]);
  },
);

it('a connection keeps nothing of the reader it served last', async () => {
  await Promise.all(Array.from({ length: 40 }, (_, n) => rowsSeenBy(n % 2 === 0 ? 'all' : [MINE], 'deliveries')));
  const [left] = await world.database.query(
    `select current_user = session_user as "isOwner", current_setting('waybill.organizations', true) as named`,
  );
  expect(left.isOwner).toBe(true);
  expect(left.named ?? '').toBe('');
});

it('a query that fails gives its connection back, whole', async () => {
  for (let n = 0; n < 20; n++)
    await expect(world.reads.as('all', (runner) => runner.query('select nonsense'))).rejects.toThrow('nonsense');
  expect(await rowsSeenBy([MINE], 'deliveries')).toHaveLength(1);
});

it.each([
  ['deliveries_by_tag', `tags @> array['x']::text[] and tags <> '{}'`],
  ['deliveries_by_destination', `destination_ids @> array['${HOOK}']::uuid[] and destination_ids <> '{}'`],
])('%s is of use to readers', async (index, condition) => {
  const plan = await world.reads.as([MINE], async (runner) => {
    await runner.query('set local enable_seqscan = off');
    await runner.query('set local enable_indexscan = off');
    return (await runner.query(`explain select id from deliveries where ${condition}`)) as object[];
  });
  expect(JSON.stringify(plan)).toContain(index);
});

it('a cursor belongs to its organization', async () => {
  const queries = new DeliveryQueries(world.reads);
  const { edges } = await queries.list({}, [THEIRS]);
  const cursor = edges[0]?.cursor ?? '';
  await expect(queries.list({}, [MINE], { after: cursor })).rejects.toThrow('after: is not a cursor of this list');
  await expect(queries.list({ organizationId: MINE }, 'all', { after: cursor })).rejects.toThrow('after');
  expect((await queries.list({}, 'all', { after: cursor })).edges.length).toBeLessThanOrEqual(1);
});

it('is kept by a rebuilt version', async () => {
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
  for (const { name } of projections) await runner.rebuild(name);
  await world.until(() => runner.progress().every(({ rebuild }) => rebuild?.state !== 'running'));
  expect(await rowsSeenBy([MINE], 'destination_health')).toHaveLength(1);
  for (const table of tables) {
    const [mine, theirs] = [await rowsSeenBy([MINE], table), await rowsSeenBy([THEIRS], table)];
    expect(mine.length).toBe(1);
    // The attempts of both went to the one hook, which is mine.
    expect(theirs.length).toBe(table === 'destination_health' ? 0 : 1);
  }
});
