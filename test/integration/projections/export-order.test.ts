import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { exportSources } from '../../../src/app/exports.js';
import type { ReadModels } from '../../../src/graphql/read-models.js';
import { LIST_ORDERS } from '../../../src/projections/cursor.js';
import { LegQueries } from '../../../src/projections/legs-query.js';
import { World } from './world.js';

/** An export ends, also of a list that grows as fast as it is read. */
const MINE = randomUUID();
const BEFORE = 450;
let world: World;
beforeAll(async () => {
  world = await World.create();
  await insert(BEFORE);
});
afterAll(() => world.close());

let inserted = 0;
async function insert(count: number): Promise<void> {
  await world.rows(
    `insert into legs (delivery_id, leg, organization_id, channel, priority, status, attempts, requested_at, dead_lettered, updated_at)
     select gen_random_uuid(), 1, $1, 'EMAIL', 'NORMAL', 'QUEUED', 0, '2026-03-02T12:00:00Z'::timestamptz + n * interval '1 second', false, now()
     from generate_series($2::integer, $3::integer) n`,
    [MINE, inserted + 1, inserted + count],
  );
  inserted += count;
}

it.each(LIST_ORDERS)('with the rows that there were, %s', async (order) => {
  const before = inserted;
  const queries = new LegQueries(world.reads);
  const reads = {
    legs: (_: object, ...[filter, page]: [object, object]) => queries.list(filter, [MINE], page),
  } as unknown as ReadModels;
  const { legs } = exportSources(reads, {} as never, {} as never);
  const seen: string[] = [];
  for await (const rows of legs?.pages({} as never, { order }) ?? []) {
    seen.push(...rows.map(({ requestedAt }) => String(requestedAt)));
    expect(seen.length).toBeLessThanOrEqual(before);
    await insert(400);
  }
  expect(seen).toHaveLength(before);
  const sorted = seen.toSorted();
  expect(seen).toEqual(order === 'OLDEST_FIRST' ? sorted : sorted.toReversed());
});
