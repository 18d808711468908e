import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { DeliveryEvent, DeliveryRequested } from '../../../src/domain/delivery-events.js';
import type { Channel, Organizations, Status } from '../../../src/domain/vocabulary.js';
import type { ListOrder } from '../../../src/projections/cursor.js';
import type { DeliveryRow } from '../../../src/projections/deliveries.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import type { DeliveryFilter } from '../../../src/projections/delivery-entity.js';
import { at, failed, failure, newDelivery, requested, sent, World } from './world.js';

/** Whatever way a list takes to its rows, they are those that the conditions say, in order, and as many as it counts. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const [ONE, OTHER] = [randomUUID(), randomUUID()];
const HOUR = 3_600;
let world: World;
let queries: DeliveryQueries;
let all: readonly DeliveryRow[];

const route = (channel: Channel) => ({ channel, address: `somebody-${channel}` });
const plan = (...channels: Channel[]) => [{ leg: 1, routes: channels.map(route), recipients: 1 }];

/** What may become of a delivery that was requested so many seconds after noon. */
const LIVES: readonly ((seconds: number) => [Partial<DeliveryRequested['data']>, ...DeliveryEvent[]])[] = [
  () => [{}],
  (seconds) => [{}, sent(1, seconds + 2)],
  (seconds) => [{ legs: plan('EMAIL', 'WEBHOOK') }, sent(1, seconds + 2)],
  (seconds) => [{ legs: plan('EMAIL') }, ...failed(1, seconds + 2)],
  (seconds) => [{}, { type: 'LegDeadLettered', at: at(seconds + 3), data: { leg: 1, failure } }],
  (seconds) => [{ scheduledAt: at(1_000_000) }, { type: 'DeliveryCancelled', at: at(seconds), data: { by: 'ada' } }],
  () => [{ scheduledAt: at(1_000_000), legs: plan('SMS') }],
];

beforeAll(async () => {
  world = await World.create();
  queries = new DeliveryQueries(world.reads);
  const runner = world.runner();
  runner.start();
  const changing: [string, number][] = [];
  for (let n = 0; n < 90; n++) {
    const { stream } = newDelivery();
    // Several hours, some without any delivery, and several deliveries at one time.
    const seconds = Math.floor(n / 2) * 700 + (n > 40 ? 5 * HOUR : 0);
    const [data, ...after] = (LIVES[n % LIVES.length] as (typeof LIVES)[number])(seconds);
    await world.record(stream, requested({ organizationId: n % 3 ? ONE : OTHER, ...data }, seconds));
    // Half of them change in a later batch than they begin in.
    if (n % 2) await world.shown(runner);
    if (after.length > 0) await world.record(stream, ...after);
    if (n % 10 === 0) changing.push([stream, seconds]);
  }
  await world.shown(runner);
  for (const [stream, seconds] of changing.filter((_, index) => index % 7 === 0))
    await world.record(stream, sent(1, seconds + 60));
  await world.shown(runner);
  all = (await queries.list({}, 'all', { first: 200 })).edges.map(({ node }) => node);
});
afterAll(() => world.close());

const matches = (row: DeliveryRow, filter: DeliveryFilter): boolean =>
  (!filter.status || filter.status.includes(row.status)) &&
  (!filter.channel || row.channels.includes(filter.channel)) &&
  (!filter.organizationId || row.organizationId === filter.organizationId) &&
  (!filter.requestedAfter || row.requestedAt >= new Date(filter.requestedAfter).toISOString()) &&
  (!filter.requestedBefore || row.requestedAt < new Date(filter.requestedBefore).toISOString());

const STATUSES: readonly (readonly Status[] | undefined)[] = [
  undefined,
  [],
  ['DELIVERED'],
  ['QUEUED', 'PROCESSING'],
  ['FAILED'],
  ['FAILED', 'CANCELLED', 'FAILED'],
  ['HELD', 'QUEUED'],
  ['EXPIRED'],
];
const SPANS: readonly DeliveryFilter[] = [
  {},
  { requestedAfter: at(0.5 * HOUR) },
  { requestedAfter: new Date(at(HOUR)), requestedBefore: new Date(at(3 * HOUR)) },
  { requestedAfter: at(1.25 * HOUR), requestedBefore: at(1.75 * HOUR) },
  { requestedBefore: at(9.9 * HOUR) },
];

const SCOPES: readonly Organizations[] = ['all', [ONE], [ONE, OTHER], []];

async function listed(
  filter: DeliveryFilter,
  organizations: Organizations,
  first: number,
  order: ListOrder = 'NEWEST_FIRST',
): Promise<string[]> {
  const ids: string[] = [];
  for (let after: string | null = null; ; ) {
    const { edges, pageInfo } = await queries.list(filter, organizations, { first, after, order });
    ids.push(...edges.map(({ node }) => node.id));
    if (!pageInfo.hasNextPage) return ids;
    after = pageInfo.endCursor;
  }
}

it.each(STATUSES.flatMap((status) => (['EMAIL', 'SMS', undefined] as const).map((channel) => ({ status, channel }))))(
  'by $status and $channel',
  async ({ status, channel }) => {
    expect(new Set(all.map((row) => row.status)).size).toBeGreaterThanOrEqual(6);
    for (const span of SPANS)
      for (const organizations of SCOPES) {
        const filter = { ...span, ...(status && { status }), ...(channel && { channel }) };
        const own = all.filter(
          ({ organizationId }) => organizations === 'all' || organizations.includes(organizationId),
        );
        const expected = own.filter((row) => matches(row, filter)).map(({ id }) => id);
        expect(await listed(filter, organizations, 7)).toEqual(expected);
        expect(await listed(filter, organizations, 17, 'OLDEST_FIRST')).toEqual(expected.toReversed());
        expect(await (await queries.list(filter, organizations)).totalCount()).toBe(expected.length);
      }
  },
);

it('by what only old or new ones have, and by what many have', async () => {
  const organizationId = randomUUID();
  await world.rows(
    `insert into deliveries (id, organization_id, status, priority, legs, holds, tags, channels, destination_ids, subjects,
       dead_lettered, requested_at, updated_at, revision, position)
     select gen_random_uuid(), $1, 'DELIVERED', 'NORMAL', '[]', '[]',
       array_remove(array[case when n <= 60 then 'old' when n > 10140 then 'new' end, case when n % 10 = 0 then 'often' end], null), '{EMAIL}', '{}', '{}',
       false, $2::timestamptz + n / 3 * interval '1 second', now(), 0, 1
     from generate_series(1, 10200) n`,
    [organizationId, at(0)],
  );
  await world.rows('analyze deliveries');
  for (const [tag, count] of [
    ['old', 60],
    ['new', 60],
    ['often', 1_020],
  ] as const) {
    const expected = await world.rows(
      `select id from deliveries where organization_id = $1 and $2 = any(tags) order by requested_at desc, id desc`,
      [organizationId, tag],
    );
    expect(await listed({ tag }, [organizationId], 45)).toEqual(expected.map(({ id }) => id));
    expect(await listed({ tag }, [organizationId], 45, 'OLDEST_FIRST')).toEqual(expected.map(({ id }) => id).reverse());
    expect(await (await queries.list({ tag }, [organizationId])).totalCount()).toBe(count);
  }
  expect(await listed({ tag: 'old', requestedBefore: at(5) }, [organizationId], 10)).toHaveLength(14);
});

it('the counts by hour are those of the rows', async () => {
  const counted = await world.rows(
    `select organization_id, hour, total::integer, delivered::integer, held::integer, failed::integer, cancelled::integer,
       processing::integer, queued::integer, email::integer, webhook::integer, sms::integer
     from delivery_hours order by 1, 2`,
  );
  const rows = await world.rows(
    `select organization_id, date_trunc('hour', requested_at, 'UTC') as hour, count(*)::integer as total,
       ${['delivered', 'held', 'failed', 'cancelled', 'processing', 'queued']
         .map((name) => `(count(*) filter (where status = '${name.toUpperCase()}'))::integer as ${name}`)
         .join(', ')},
       ${['email', 'webhook', 'sms']
         .map((name) => `(count(*) filter (where '${name.toUpperCase()}' = any(channels)))::integer as ${name}`)
         .join(', ')}
     from deliveries where organization_id = any($1) group by 1, 2 order by 1, 2`,
    [[ONE, OTHER]],
  );
  expect(counted).toEqual(rows);
});
