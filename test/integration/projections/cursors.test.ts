import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { AttemptsInDoubt } from '../../../src/projections/attempts-in-doubt-query.js';
import { AttemptQueries } from '../../../src/projections/attempts-query.js';
import { BadQuery, LIST_ORDERS, type ListOrder } from '../../../src/projections/cursor.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import type { LegRecord } from '../../../src/projections/legs.js';
import { LegQueries } from '../../../src/projections/legs-query.js';
import type { Page, PageArgs } from '../../../src/projections/page.js';
import { SuppressionQueries } from '../../../src/projections/suppressions-query.js';
import { World } from './world.js';

/** Pages of a list, while others write: no row twice, and none missing that was there from the beginning to the end. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let world: World;
beforeAll(async () => {
  world = await World.create();
});
afterAll(() => world.close());

const idOf = ({ id }: { readonly id: string }): string => id;
/** Few different times, so that many rows have the same. */
const timeOf = (second: number): string => new Date(Date.UTC(2026, 2, 2, 12, 0, second)).toISOString();

async function insert(organizationId: string, seconds: readonly number[]): Promise<string[]> {
  const ids = seconds.map(() => randomUUID());
  const values = [organizationId, ids, seconds.map(timeOf)];
  await world.rows(
    `insert into deliveries (id, organization_id, status, priority, legs, holds, tags, channels, destination_ids, subjects,
       dead_lettered, requested_at, updated_at, revision, position)
     select id, $1, 'QUEUED', 'NORMAL', '[]', '[{"reason": "doubt", "detail": {"leg": 1, "attempt": 2}}]', '{}', '{EMAIL}', '{}', '{}', false, at, at, 0, 1
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at)`,
    values,
  );
  await world.rows(
    `insert into legs (delivery_id, leg, organization_id, channel, priority, status, attempts, requested_at, due_at,
       dead_lettered, updated_at, open_due_at, unmet_due_at)
     select id, leg, $1, 'EMAIL', 'NORMAL', 'QUEUED', 0, at, at, false, at, at, at
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at), generate_series(1, 2) leg`,
    values,
  );
  await world.rows(
    `insert into attempts (delivery_id, leg, number, organization_id, route, channel, provider, status, started_at)
     select id, 1, number, $1, 0, 'EMAIL', 'p', case number when 1 then 'STARTED' else 'IN_DOUBT' end, at
     from unnest($2::uuid[], $3::timestamptz[]) u(id, at), generate_series(1, 2) number`,
    values,
  );
  await world.rows(
    `insert into suppressions (id, organization_id, channel, address, reason, since, by, listed)
     select id, $1, 'EMAIL', 'somebody', 'MANUAL', at, 'ada', true from unnest($2::uuid[], $3::timestamptz[]) u(id, at)`,
    values,
  );
  return ids;
}

async function update(id: string): Promise<void> {
  await world.rows(
    `update deliveries set status = 'DELIVERED', updated_at = now(), revision = revision + 1 where id = $1`,
    [id],
  );
  await world.rows(
    `update legs set status = 'BOUNCED', attempts = 1, updated_at = now(), open_due_at = null where delivery_id = $1`,
    [id],
  );
  await world.rows(
    `update attempts set status = 'FAILED', completed_at = now() where delivery_id = $1 and number = 1`,
    [id],
  );
  await world.rows(`update suppressions set note = 'again' where id = $1`, [id]);
}

/** A page of a list of an organization's rows, each as a text that begins with the id of what it was inserted with. */
type Read = (scope: Organizations, page: PageArgs) => Promise<Page<string>>;
const keyed = <Node>(page: Page<Node>, key: (node: Node) => string): Page<string> => ({
  ...page,
  edges: page.edges.map(({ cursor, node }) => ({ cursor, node: key(node) })),
});
const legKey = ({ deliveryId, leg }: LegRecord) => `${deliveryId}-${leg}`;

/** And how many rows of each there are for what is inserted at once. */
const lists: readonly (readonly [string, number, Read])[] = [
  ['deliveries', 1, async (scope, page) => keyed(await new DeliveryQueries(world.reads).list({}, scope, page), idOf)],
  ['attempts', 2, async (scope, page) => keyed(await new AttemptQueries(world.reads).list({}, scope, page), idOf)],
  [
    'attempts in doubt',
    1,
    async (scope, page) => keyed(await new AttemptsInDoubt(world.reads).list(scope, page), idOf),
  ],
  ['legs', 2, async (scope, page) => keyed(await new LegQueries(world.reads).list({}, scope, page), legKey)],
  [
    'legs by due time',
    2,
    async (scope, page) =>
      keyed(await new LegQueries(world.reads).sla({ what: 'breached', withinSeconds: 0 }, scope, page), legKey),
  ],
  [
    'suppressions',
    1,
    async (scope, page) => keyed(await new SuppressionQueries(world.reads).list(scope, undefined, page), idOf),
  ],
];

/** All pages of a list. */
async function* walk(read: Read, scope: Organizations, page: PageArgs): AsyncGenerator<readonly string[]> {
  for (let after: string | null = null; ; ) {
    const { edges, pageInfo } = await read(scope, { ...page, after });
    yield edges.map(({ node }) => node);
    if (!pageInfo.hasNextPage) return;
    after = pageInfo.endCursor;
  }
}

describe.each(lists)('the pages of %s', (_, rowsOfEach, read) => {
  it('have each row once that is there all the time, whatever is written meanwhile', async () => {
    const second = fc.integer({ min: 0, max: 5 });
    const writes = fc.array(fc.record({ inserted: fc.array(second, { maxLength: 3 }), updated: fc.nat() }), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(second, { minLength: 1, maxLength: 25 }),
        fc.record({ first: fc.integer({ min: 1, max: 7 }), order: fc.constantFrom(...LIST_ORDERS) }),
        writes,
        async (initial, page, steps) => {
          const organizationId = randomUUID();
          const ids = await insert(organizationId, initial);
          const seen: string[] = [];
          const left = [...steps];
          for await (const rows of walk(read, [organizationId], page)) {
            seen.push(...rows);
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

  it('are the same rows in both orders, the one from the other end', async () => {
    const scope = [randomUUID()];
    await insert(scope[0] as string, [0, 3, 3, 1, 3, 5, 0, 2, 2, 2, 4]);
    for (const first of [1, 4, 200]) {
      const [newest, oldest] = await Promise.all(
        LIST_ORDERS.map(async (order) => {
          const rows: string[] = [];
          for await (const page of walk(read, scope, { first, order })) rows.push(...page);
          return rows;
        }),
      );
      expect(newest).toHaveLength(11 * rowsOfEach);
      expect(oldest).toEqual(newest?.toReversed());
    }
  });

  it('have cursors that are of no use in the other order, in another list, or to somebody else', async () => {
    const scope = [randomUUID()];
    await insert(scope[0] as string, [0, 1, 2]);
    for (const [order, other] of [LIST_ORDERS, LIST_ORDERS.toReversed()] as [ListOrder, ListOrder][]) {
      const { pageInfo } = await read(scope, { first: 1, order });
      const after = pageInfo.endCursor;
      expect((await read(scope, { order, after })).edges).toHaveLength(3 * rowsOfEach - 1);
      const refusal = async (organizations: Organizations, page: PageArgs, list = read) =>
        await list(organizations, page).catch((error: unknown) => error);
      const elsewhere = lists.filter(([, , list]) => list !== read).map(([, , list]) => list);
      expect(await refusal(scope, { order: other, after })).toEqual(
        new BadQuery('after', 'is a cursor of this list in the other order'),
      );
      const notOfThisList = new BadQuery('after', 'is not a cursor of this list');
      expect(await refusal([randomUUID()], { order, after })).toEqual(notOfThisList);
      for (const list of elsewhere) expect(await refusal(scope, { order, after }, list)).toEqual(notOfThisList);
    }
  });
});
