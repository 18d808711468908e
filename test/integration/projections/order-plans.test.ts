import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { AttemptsInDoubt } from '../../../src/projections/attempts-in-doubt-query.js';
import { AttemptQueries } from '../../../src/projections/attempts-query.js';
import { LIST_ORDERS } from '../../../src/projections/cursor.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import { LegQueries } from '../../../src/projections/legs-query.js';
import type { Page, PageArgs } from '../../../src/projections/page.js';
import { SuppressionQueries } from '../../../src/projections/suppressions-query.js';
import { World } from './world.js';

/** Lists in either order are read from an index, from one end or from the other, and a later page begins where it is. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const MINE = randomUUID();
let world: World;
const asked: { query: string; parameters: unknown[] }[] = [];

beforeAll(async () => {
  world = await World.create();
  await world.rows(
    `insert into deliveries (id, organization_id, status, priority, legs, holds, tags, channels, destination_ids, subjects,
       dead_lettered, requested_at, updated_at, revision, position)
     select gen_random_uuid(), case when n % 10 = 0 then $1 else 'other' end, 'DELIVERED', 'NORMAL', '[]', '[]', '{}', '{EMAIL}', '{}',
       '{}', n % 7 = 0, now() - n * interval '1 minute', now(), 0, 1
     from generate_series(1, 6000) n`,
    [MINE],
  );
  await world.rows(
    `insert into legs (delivery_id, leg, organization_id, channel, priority, status, attempts, requested_at, due_at,
       dead_lettered, updated_at, open_due_at, unmet_due_at)
     select id, leg, organization_id, 'EMAIL', 'NORMAL', 'QUEUED', 0, requested_at, requested_at, dead_lettered, now(), requested_at,
       requested_at from deliveries, generate_series(1, 2) leg`,
  );
  await world.rows(
    `insert into attempts (delivery_id, leg, number, organization_id, route, channel, provider, status, started_at)
     select id, 1, number, organization_id, 0, 'EMAIL', 'p', 'SUCCEEDED', requested_at from deliveries, generate_series(1, 2) number`,
  );
  await world.rows(
    `insert into suppressions (id, organization_id, channel, address, reason, since, by, listed)
     select id, organization_id, 'EMAIL', 'somebody', 'MANUAL', requested_at, 'ada', true from deliveries`,
  );
  await world.rows('vacuum analyze deliveries, legs, attempts, suppressions');
  const silent = () => undefined;
  const logQuery = (query: string, parameters: unknown[] = []) => void asked.push({ query, parameters });
  Object.assign(world.database, { logger: { logQuery, logQueryError: silent, logQuerySlow: silent, log: silent } });
});
afterAll(() => world.close());

type Read = (scope: Organizations, page: PageArgs) => Promise<Page<unknown>>;
const deliveries: Read = (scope, page) => new DeliveryQueries(world.reads).list({}, scope, page);
const legs: Read = (scope, page) => new LegQueries(world.reads).list({}, scope, page);
const attempts: Read = (scope, page) => new AttemptQueries(world.reads).list({}, scope, page);
const due =
  (what: 'breached' | 'at-risk'): Read =>
  (scope, page) =>
    new LegQueries(world.reads).sla({ what, withinSeconds: 60 }, scope, page);

/** How the statement of a page is carried out. */
async function planOf(read: Read, scope: Organizations, page: PageArgs): Promise<string> {
  asked.length = 0;
  await read(scope, page);
  const [statement, ...others] = asked.filter(({ query }) => /^\s*select/i.test(query));
  expect([statement, others]).toEqual([expect.anything(), []]);
  const { query, parameters } = statement as (typeof asked)[number];
  const rows = await world.reads.as(scope, (runner) => runner.query(`explain (costs off) ${query}`, parameters));
  return (rows as Record<string, string>[]).map((row) => row['QUERY PLAN']).join('\n');
}

describe.each<[string, string, Organizations, Read]>([
  ['deliveries', 'deliveries_by_organization', [MINE], deliveries],
  ['deliveries of all', 'deliveries_by_time', 'all', deliveries],
  [
    'deliveries with dead letters',
    'deliveries_dead_lettered_by_organization',
    [MINE],
    (scope, page) => new DeliveryQueries(world.reads).list({ deadLettered: true }, scope, page),
  ],
  ['legs', 'legs_by_organization', [MINE], legs],
  ['legs of all', 'legs_by_time', 'all', legs],
  [
    'dead letters',
    'legs_dead_lettered_by_organization',
    [MINE],
    (scope, page) => new LegQueries(world.reads).list({ deadLettered: true }, scope, page),
  ],
  ['legs at risk', 'legs_open_by_due_time', 'all', due('at-risk')],
  ['legs that broke their service level', 'legs_unmet_by_organization', [MINE], due('breached')],
  ['attempts', 'attempts_by_organization', [MINE], attempts],
  [
    'suppressions',
    'suppressions_by_time',
    [MINE],
    (scope, page) => new SuppressionQueries(world.reads).list(scope, undefined, page),
  ],
])('%s', (_, index, scope, read) => {
  it(`are read from ${index}, from either end`, async () => {
    const ends: string[] = [];
    for (const order of LIST_ORDERS) {
      const { pageInfo } = await read(scope, { order });
      for (const after of [null, pageInfo.endCursor]) {
        const plan = await planOf(read, scope, { order, after });
        const [, end] = new RegExp(`Index Scan( Backward)? using ${index} on`).exec(plan) ?? [];
        expect(plan).toMatch(new RegExp(`Index Scan( Backward)? using ${index} on`));
        expect(plan).not.toContain('Sort');
        if (after) expect(plan).toMatch(/Index Cond: .*ROW\(/);
        ends.push(end ?? ' Forward');
      }
    }
    expect(new Set(ends.slice(0, 2)).size).toBe(1);
    expect(new Set(ends).size).toBe(2);
  });
});

it('attempts of all are read from attempts_by_time, and only those of one time are put in order', async () => {
  for (const order of LIST_ORDERS) {
    const plan = await planOf(attempts, 'all', { order });
    expect(plan).toMatch(/Incremental Sort.*Presorted Key: [^\n]*started_at.*using attempts_by_time on/s);
  }
});

it('attempts in doubt are read from the index that has only those', async () => {
  for (const order of LIST_ORDERS) {
    const list: Read = (scope, page) => new AttemptsInDoubt(world.reads).list(scope, page);
    expect(await planOf(list, [MINE], { order })).toMatch(/using attempts_in_doubt on/);
  }
});
