import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeliveryEvent, DeliveryRequested } from '../../../src/domain/delivery-events.js';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { AttemptQueries } from '../../../src/projections/attempts-query.js';
import { BadQuery, cursorOf } from '../../../src/projections/cursor.js';
import { DashboardQueries } from '../../../src/projections/dashboard-query.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import type { DeliveryFilter } from '../../../src/projections/delivery-entity.js';
import { DestinationQueries } from '../../../src/projections/destinations-query.js';
import { at, failure, HOOK, newDelivery, requested, sent, World } from './world.js';

const MINE = randomUUID();
const THEIRS = randomUUID();
const NOBODYS = randomUUID();

let world: World;
let queries: DeliveryQueries;

/** Ids by name of the deliveries that all tests here ask about; requested one second after another. */
const ids = new Map<string, string>();
let seconds = 0;

async function record(name: string, data: Partial<DeliveryRequested['data']>, ...after: DeliveryEvent[]) {
  const { id, stream } = newDelivery();
  ids.set(name, id);
  await world.record(stream, requested({ organizationId: MINE, ...data }, seconds++), ...after);
}

beforeAll(async () => {
  world = await World.create();
  queries = new DeliveryQueries(world.reads);
  await record('plain', {});
  await record('tagged', { tags: ['invoice', 'march'], correlationId: 'order-1' }, sent());
  await record('by e-mail', { legs: [{ leg: 1, routes: [{ channel: 'EMAIL', address: 'a@b.c' }], recipients: 1 }] });
  await record('dead', {}, { type: 'LegDeadLettered', at: at(9), data: { leg: 1, failure } });
  await record('theirs', { organizationId: THEIRS, tags: ['invoice'] }, sent());
  await record('cancelled', {}, { type: 'DeliveryCancelled', at: at(9), data: { by: 'ada' } });
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
});
afterAll(() => world.close());

const nameOf = (id: string) => [...ids].find(([, candidate]) => candidate === id)?.[0];

async function listed(filter: DeliveryFilter, organizations: Organizations = [MINE]): Promise<(string | undefined)[]> {
  const page = await queries.list(filter, organizations);
  expect(await page.totalCount()).toBe(page.edges.length);
  return page.edges.map(({ node }) => nameOf(node.id));
}

describe('the list of deliveries', () => {
  it.each<[string, DeliveryFilter, string[]]>([
    ['nothing', {}, ['cancelled', 'dead', 'by e-mail', 'tagged', 'plain']],
    [
      'nulls',
      { status: null, tag: null, after: null } as DeliveryFilter,
      ['cancelled', 'dead', 'by e-mail', 'tagged', 'plain'],
    ],
    ['status', { status: ['DELIVERED', 'CANCELLED'] }, ['cancelled', 'tagged']],
    ['no status at all', { status: [] }, []],
    ['channel', { channel: 'EMAIL' }, ['by e-mail']],
    ['destination', { destinationId: HOOK }, ['cancelled', 'dead', 'tagged', 'plain']],
    ['a destination that is no uuid', { destinationId: 'x' }, []],
    ['recipient', { recipientId: randomUUID() }, []],
    ['tag', { tag: 'march' }, ['tagged']],
    ['correlation', { correlationId: 'order-1' }, ['tagged']],
    ['dead letters', { deadLettered: true }, ['dead']],
    ['no dead letters', { deadLettered: false, status: ['FAILED'] }, []],
    ['time', { requestedAfter: at(1), requestedBefore: new Date(at(3)) }, ['by e-mail', 'tagged']],
    ['my organization', { organizationId: MINE, tag: 'invoice' }, ['tagged']],
    ['an organization that I may not see', { organizationId: THEIRS }, []],
    ['SQL', { tag: `x' or true --` }, []],
  ])('by %s', async (_, filter, expected) => {
    expect(await listed(filter)).toEqual(expected);
  });

  it('goes page by page, newest first, without gaps or repetitions', async () => {
    const seen: (string | undefined)[] = [];
    let after: string | null = null;
    for (let pages = 1; ; pages++) {
      const page = await queries.list({}, 'all', { first: 4, after });
      seen.push(...page.edges.map(({ node }) => nameOf(node.id)));
      expect(page.pageInfo).toMatchObject({ hasNextPage: pages < 2, hasPreviousPage: pages > 1 });
      expect(page.pageInfo.startCursor).toBe(page.edges[0]?.cursor);
      expect(await page.totalCount()).toBe(6);
      after = page.pageInfo.endCursor;
      if (!page.pageInfo.hasNextPage) break;
    }
    expect(seen).toEqual(['cancelled', 'theirs', 'dead', 'by e-mail', 'tagged', 'plain']);
    const beyond = await queries.list({}, 'all', { first: 4, after });
    expect(beyond).toMatchObject({ edges: [], pageInfo: { hasNextPage: false, startCursor: null, endCursor: null } });
  });

  it('goes through deliveries of the same millisecond as well', async () => {
    const organizationId = randomUUID();
    const all = Array.from({ length: 7 }, newDelivery);
    for (const { stream } of all) await world.record(stream, requested({ organizationId }, 1_000));
    const runner = world.runner();
    runner.start();
    await world.shown(runner);
    const seen = new Set<string>();
    let after: string | null = null;
    do {
      const page = await queries.list({}, [organizationId], { first: 2, after });
      for (const { node } of page.edges) seen.add(node.id);
      after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
    } while (after);
    expect([...seen].sort()).toEqual(all.map(({ id }) => id).sort());
  });

  it.each([
    ['after', 50, 'nonsense'],
    ['after', 50, cursorOf('deliveries', 'NEWEST_FIRST', ['2026-99-99T00:00:00.000Z', randomUUID(), MINE])],
    ['after', 50, cursorOf('deliveries', 'NEWEST_FIRST', [at(0), 'no-uuid', MINE])],
    ['after', 50, cursorOf('deliveries', 'NEWEST_FIRST', [at(0), randomUUID(), MINE, 1])],
    ['after', 50, cursorOf('deliveries', 'OLDEST_FIRST', [at(0), randomUUID(), MINE])],
    ['after', 50, cursorOf('legs', 'NEWEST_FIRST', [at(0), randomUUID(), MINE])],
    ['first', 0, undefined],
    ['first', 201, undefined],
  ])('refuses %s when it is senseless', async (path, first, after) => {
    const refusal = await queries.list({}, 'all', { first, after }).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(BadQuery);
    expect(refusal).toMatchObject({ path });
  });
});

describe('who belongs to no organization of a row', () => {
  const ofThem = (): string => ids.get('theirs') as string;

  it.each<[string, Organizations, boolean]>([
    ['all', 'all', true],
    ['theirs', [THEIRS], true],
    ['several', [MINE, THEIRS], true],
    ['another', [MINE], false],
    ['an unknown one', [NOBODYS], false],
    ['none', [], false],
  ])('asking for %s', async (_, organizations, isVisible) => {
    expect((await queries.find(ofThem(), organizations)) !== undefined).toBe(isVisible);
    expect(await queries.findMany([ofThem()], organizations)).toHaveLength(isVisible ? 1 : 0);
    expect((await listed({ tag: 'invoice' }, organizations)).includes('theirs')).toBe(isVisible);
    const dashboard = new DashboardQueries(world.reads);
    const total = (await dashboard.dashboard(organizations, at(0), at(60), 'day')).reduce(
      (sum, row) => sum + row.total,
      0,
    );
    expect(total > 0).toBe(organizations === 'all' || organizations.some((one) => one === MINE || one === THEIRS));
    if (organizations.length === 0) expect(await new DestinationQueries(world.reads).list(organizations)).toEqual([]);
  });

  it('sees no attempts either', async () => {
    const attempts = new AttemptQueries(world.reads);
    const one = ids.get('tagged') as string;
    const asked = [randomUUID(), one];
    expect((await attempts.ofDeliveries(asked, 'all')).map((rows) => rows.length)).toEqual([0, 1]);
    expect((await attempts.ofDeliveries(asked, [NOBODYS])).map((rows) => rows.length)).toEqual([0, 0]);
  });

  it('finds nothing under what is no id', async () => {
    expect(await queries.find('nonsense', 'all')).toBeUndefined();
  });
});
