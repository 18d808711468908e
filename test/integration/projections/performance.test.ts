import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DeliveryEvent, DeliveryRequested } from '../../../src/domain/delivery-events.js';
import { BadQuery } from '../../../src/projections/cursor.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import { LegQueries } from '../../../src/projections/legs-query.js';
import { PerformanceQueries } from '../../../src/projections/performance-query.js';
import { TenantReads } from '../../../src/projections/tenant-reads.js';
import { at, failed, failure, newDelivery, requested, sent, World } from './world.js';

// All in a real database, which a busy machine makes slow.
vi.setConfig({ testTimeout: 60_000 });

const MINE = randomUUID();
const THEIRS = randomUUID();
let world: World;
let legs: LegQueries;
let performance: PerformanceQueries;
const ids = new Map<string, string>();

async function record(name: string, data: Partial<DeliveryRequested['data']>, ...after: DeliveryEvent[]) {
  const { id, stream } = newDelivery();
  ids.set(name, id);
  await world.record(stream, requested({ organizationId: MINE, ...data }), ...after);
}
const nameOf = (id: string) => [...ids].find(([, candidate]) => candidate === id)?.[0];
const day = { from: at(-3_600), to: at(3_600) };
const deadLetter: DeliveryEvent = { type: 'LegDeadLettered', at: at(9), data: { leg: 1, failure } };

beforeAll(async () => {
  world = await World.create();
  const reads = new TenantReads(world.database);
  legs = new LegQueries(reads);
  performance = new PerformanceQueries(reads);
  await record('in time', { slaSeconds: 60 }, sent(1, 10));
  await record('late', { slaSeconds: 5 }, ...failed(1, 2), sent(2, 30));
  await record('dead', { slaSeconds: 60 }, ...failed(1, 2), deadLetter);
  await record('overdue', { slaSeconds: 1 });
  await record('no promise', { priority: 'URGENT' }, sent(1, 4));
  await record('cancelled', { slaSeconds: 1 }, { type: 'DeliveryCancelled', at: at(9), data: { by: 'ada' } });
  await record('theirs', { organizationId: THEIRS, slaSeconds: 60 }, sent(1, 20));
  await record('to approve', { approval: { approvers: ['ada'], minimum: 1 } });
  const far = Math.round((Date.now() - Date.parse(at(0))) / 1_000) + 100;
  await record('in danger', { slaSeconds: far });
  await record('safe', { slaSeconds: far + 100_000 });
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
});
afterAll(() => world.close());

describe('service levels', () => {
  it('count what was promised, kept and broken', async () => {
    const rows = await performance.sla([MINE], day);
    expect(rows).toEqual([
      {
        ...{ organizationId: MINE, channel: 'WEBHOOK', priority: 'NORMAL', total: 8 },
        ...{ counted: 4, met: 1, compliance: 0.25, breached: 3, open: 2 },
        ...{ p50Ms: 20_000, p95Ms: 29_000, p99Ms: 29_800 },
      },
      {
        ...{ organizationId: MINE, channel: 'WEBHOOK', priority: 'URGENT', total: 1 },
        ...{ counted: 0, met: 0, compliance: null, breached: 0, open: 0 },
        ...{ p50Ms: 4_000, p95Ms: 4_000, p99Ms: 4_000 },
      },
    ]);
    expect((await performance.sla('all', day)).map(({ organizationId }) => organizationId).sort()).toEqual(
      [MINE, MINE, THEIRS].sort(),
    );
    expect(await performance.sla([MINE], { from: at(3_600), to: at(7_200) })).toEqual([]);
  });

  it('name the legs that broke them, and those that soon may', async () => {
    const names = async (what: 'breached' | 'at-risk', withinSeconds: number) =>
      (await legs.sla({ what, withinSeconds }, [MINE])).edges.map(({ node }) => nameOf(node.deliveryId));
    expect(await names('breached', 0)).toEqual(['overdue', 'late', 'dead']);
    expect(await names('at-risk', 3_600)).toEqual(['overdue', 'in danger']);
    expect(await names('at-risk', 0)).toEqual(['overdue']);
  });
});

describe('the list of legs', () => {
  it('is read page by page, each leg once', async () => {
    const seen: string[] = [];
    for (let after: string | null = null; ; ) {
      const page = await legs.list({}, [MINE], { first: 2, after });
      expect(await page.totalCount()).toBe(9);
      seen.push(...page.edges.map(({ node }) => node.deliveryId));
      if (!page.pageInfo.hasNextPage) break;
      after = page.pageInfo.endCursor;
    }
    expect(new Set(seen).size).toBe(9);
    expect(seen).toHaveLength(9);
    await expect(legs.list({}, [MINE], { after: 'nonsense' })).rejects.toBeInstanceOf(BadQuery);
  });

  it('has the dead letters, with why', async () => {
    const { edges } = await legs.list({ deadLettered: true }, [MINE]);
    expect(edges.map(({ node }) => node)).toEqual([
      expect.objectContaining({
        ...{ deliveryId: ids.get('dead'), leg: 1, status: 'FAILED', attempts: 1, provider: 'webhook' },
        ...{ errorCategory: 'NETWORK', errorCode: 'ECONNRESET', deadLettered: true, requestedAt: at(0) },
      }),
    ]);
    expect((await legs.list({ deadLettered: true, organizationId: THEIRS }, [MINE])).edges).toEqual([]);
  });
});

describe('performance', () => {
  it('of providers is told by day', async () => {
    expect(await performance.providers([MINE], day)).toEqual([
      {
        ...{ date: '2026-03-02T00:00:00.000Z', provider: 'webhook', channel: 'WEBHOOK' },
        ...{ attempts: 5, succeeded: 3, failed: 2, successRate: 0.6, averageMs: 1_000, p95Ms: 1_000 },
        errors: { NETWORK: 2 },
      },
    ]);
  });

  it('of deliveries is told by day, channel and provider', async () => {
    expect(await performance.deliveries([MINE], day)).toEqual([
      {
        date: '2026-03-02T00:00:00.000Z',
        channel: 'WEBHOOK',
        provider: null,
        total: 5,
        successful: 0,
        averageDeliveryMs: null,
      },
      {
        ...{ date: '2026-03-02T00:00:00.000Z', channel: 'WEBHOOK', provider: 'webhook', total: 4, successful: 3 },
        averageDeliveryMs: expect.closeTo((10_000 + 30_000 + 4_000) / 3, 3),
      },
    ]);
  });
});

it('deliveries that wait for an approval are a list of their own', async () => {
  const queries = new DeliveryQueries(new TenantReads(world.database));
  const waiting = await queries.list({ awaitingApproval: true }, [MINE]);
  expect(waiting.edges.map(({ node }) => nameOf(node.id))).toEqual(['to approve']);
  expect((await queries.list({ awaitingApproval: false }, [MINE])).edges).toHaveLength(8);
});
