import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { AttemptQueries } from '../../../src/projections/attempts-query.js';
import { DeliveryQueries, type Page } from '../../../src/projections/deliveries-query.js';
import { LegQueries } from '../../../src/projections/legs-query.js';
import { World } from './world.js';

/** Pages of a list, while others write: no row twice, and none missing that was there from the beginning to the end. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let world: World;
beforeAll(async () => {
  world = await World.create();
});
afterAll(() => world.close());

/** Few different times, so that many rows have the same. */
const timeOf = (second: number): string => new Date(Date.UTC(2026, 2, 2, 12, 0, second)).toISOString();

async function insert(organizationId: string, seconds: readonly number[]): Promise<string[]> {
  const ids = seconds.map(() => randomUUID());
  const values = [organizationId, ids, seconds.map(timeOf)];
  await world.rows(
    `insert into deliveries (id, organization_id, status, priority, legs, holds, tags, channels, destination_ids, subjects,
       dead_lettered, requested_at, updated_at, revision, position)
     select id, $1, 'QUEUED', 'NORMAL', '[]', '[]', '{}', '{EMAIL}', '{}', '{}', false, at, at, 0, 1
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at)`,
    values,
  );
  await world.rows(
    `insert into legs (delivery_id, leg, organization_id, channel, priority, status, attempts, requested_at, due_at,
       dead_lettered, updated_at)
     select id, leg, $1, 'EMAIL', 'NORMAL', 'QUEUED', 0, at, at, false, at
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at), generate_series(1, 2) leg`,
    values,
  );
  await world.rows(
    `insert into attempts (delivery_id, leg, number, organization_id, route, channel, provider, status, started_at)
     select id, 1, number, $1, 0, 'EMAIL', 'p', 'STARTED', at
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at), generate_series(1, 2) number`,
    values,
  );
  return ids;
}

async function update(id: string): Promise<void> {
  await world.rows(
    `update deliveries set status = 'DELIVERED', updated_at = now(), revision = revision + 1 where id = $1`,
    [id],
  );
  await world.rows(`update legs set status = 'BOUNCED', attempts = 1, updated_at = now() where delivery_id = $1`, [id]);
  await world.rows(`update attempts set status = 'FAILED', completed_at = now() where delivery_id = $1`, [id]);
}

type List = (organizationId: string, size: number, after: string | null) => Promise<Page<{ readonly key: string }>>;
const keyed = <Node>(page: Page<Node>, key: (node: Node) => string): Page<{ key: string }> => ({
  ...page,
  edges: page.edges.map(({ cursor, node }) => ({ cursor, node: { key: key(node) } })),
});

it.each<[string, number, List]>([
  [
    'deliveries',
    1,
    async (id, size, after) =>
      keyed(await new DeliveryQueries(world.reads).list({}, [id], size, after), (row) => row.id),
  ],
  [
    'attempts',
    2,
    async (id, size, after) =>
      keyed(await new AttemptQueries(world.reads).list({}, [id], size, after), (row) => row.id),
  ],
  [
    'legs',
    2,
    async (id, size, after) =>
      keyed(await new LegQueries(world.reads).list({}, [id], size, after), (row) => `${row.deliveryId}-${row.leg}`),
  ],
  [
    'legs by due time',
    2,
    async (id, size, after) =>
      keyed(
        await new LegQueries(world.reads).sla({ what: 'breached', withinSeconds: 0 }, [id], size, after),
        (row) => `${row.deliveryId}-${row.leg}`,
      ),
  ],
])('the pages of %s', async (_, rowsOfEach, list) => {
  const second = fc.integer({ min: 0, max: 5 });
  const writes = fc.array(fc.record({ inserted: fc.array(second, { maxLength: 3 }), updated: fc.nat() }), {
    maxLength: 8,
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(second, { minLength: 1, maxLength: 25 }),
      fc.integer({ min: 1, max: 7 }),
      writes,
      async (initial, size, steps) => {
        const organizationId = randomUUID();
        const ids = await insert(organizationId, initial);
        const seen: string[] = [];
        const left = [...steps];
        for (let after: string | null = null; ; ) {
          const page = await list(organizationId, size, after);
          seen.push(...page.edges.map(({ node }) => node.key));
          if (!page.pageInfo.hasNextPage) break;
          after = page.pageInfo.endCursor;
          const step = left.shift();
          if (!step) continue;
          await insert(organizationId, step.inserted);
          await update(ids[step.updated % ids.length] as string);
        }
        expect(new Set(seen).size).toBe(seen.length);
        const found = seen.filter((key) => ids.some((id) => key.startsWith(id)));
        expect(found).toHaveLength(ids.length * rowsOfEach);
      },
    ),
    { numRuns: 25 },
  );
});
