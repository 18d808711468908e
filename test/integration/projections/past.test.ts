import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DeliveryEvent } from '../../../src/domain/delivery-events.js';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { EventCodec } from '../../../src/event-store/codec.js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { closedFields } from '../../../src/event-store/sealed-fields.js';
import { BadQuery, LIST_ORDERS } from '../../../src/projections/cursor.js';
import { contributions } from '../../../src/projections/dashboard.js';
import { BUCKETS, type Bucket, DashboardQueries } from '../../../src/projections/dashboard-query.js';
import { deliveryRow } from '../../../src/projections/deliveries.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import type { DeliveryFilter } from '../../../src/projections/delivery-entity.js';
import { type Moment, pastOf } from '../../../src/projections/past.js';
import { bucketOf, PastDashboard } from '../../../src/projections/past-dashboard.js';
import { PastDeliveries } from '../../../src/projections/past-deliveries.js';
import { type DeliveryView, deliveries as stream, viewOf } from '../../../src/projections/views.js';
import { at, failed, failure, newDelivery, requested, sent, World } from './world.js';

// All in a real database, which a busy machine makes slow.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const [MINE, THEIRS] = ['mine', 'theirs'];
const codec = new EventCodec(closedFields);
let world: World;
let deliveries: PastDeliveries;
let dashboard: PastDashboard;
/** The log, for a fold that knows nothing of read models. */
let log: RecordedEvent[];

/** Several lives side by side, so that at every position some are half lived. */
const lives = (): DeliveryEvent[][] => [
  [requested({ organizationId: MINE }), sent(1, 10)],
  [requested({ organizationId: MINE, slaSeconds: 60, priority: 'HIGH' }, 1), ...failed(1, 3), sent(2, 30)],
  [
    requested({ organizationId: MINE }, 2),
    ...failed(1, 4),
    { type: 'LegDeadLettered', at: at(9), data: { leg: 1, failure } },
  ],
  [requested({ organizationId: THEIRS }, 3), sent(1, 20)],
  [
    requested({ organizationId: MINE, approval: { approvers: ['ada'], minimum: 1 } }, 4),
    { type: 'ApprovalGranted', at: at(40), data: { approver: 'ada' } },
    sent(1, 41),
  ],
  [requested({ organizationId: MINE }, -7_200), { type: 'DeliveryCancelled', at: at(9), data: { by: 'ada' } }],
  [
    requested(
      { organizationId: MINE, legs: [{ leg: 1, routes: [{ channel: 'EMAIL', address: 'a@b.c' }], recipients: 2 }] },
      5,
    ),
  ],
];

beforeAll(async () => {
  world = await World.create();
  // Recorded when it happened, as by instances with good clocks.
  vi.useFakeTimers({ toFake: ['Date'] });
  const all = lives().flatMap((events) => {
    const { stream: id } = newDelivery();
    return events.map((event) => ({ id, event }));
  });
  for (const { id, event } of all.sort((a, b) => (a.event.at < b.event.at ? -1 : 1))) {
    vi.setSystemTime(event.at);
    await world.record(id, event);
  }
  vi.useRealTimers();
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
  log = await world.log.readAll(0n, 1_000);
  deliveries = new PastDeliveries(world.log, codec, new DeliveryQueries(world.reads));
  dashboard = new PastDashboard(world.log, codec, world.reads);
});
afterAll(() => world.close());

/** What the log alone makes of all deliveries up to a moment. */
function folded(isIncluded: (event: RecordedEvent) => boolean): DeliveryView[] {
  const streams = new Map<string, RecordedEvent[]>();
  for (const event of log.filter(isIncluded))
    streams.set(event.streamId, [...(streams.get(event.streamId) ?? []), event]);
  return [...streams].map(
    ([id, events]) =>
      viewOf(stream, id.slice(stream.prefix.length), codec.decodeStream<DeliveryEvent>(events)) as DeliveryView,
  );
}

const isOf = (organizations: Organizations) => (view: DeliveryView) =>
  organizations === 'all' || organizations.includes(view.state.request.organizationId);

/** Every event's moment, by position and by time. */
const moment = fc.nat(14).chain((index) =>
  fc.boolean().map((byTime): [Moment, (event: RecordedEvent) => boolean] => {
    const { position, created } = log[Math.min(index, log.length - 1)] as RecordedEvent;
    return byTime
      ? [{ at: new Date(created) }, (event) => event.created <= created]
      : [{ position }, (event) => event.position <= position];
  }),
);
const organizations = fc.constantFrom<Organizations[]>('all', [MINE], [THEIRS], [MINE, THEIRS]);

describe('the list of deliveries as of a moment', () => {
  it('is what a fold of the log up to there gives, page by page', async () => {
    const status = fc.option(
      fc.subarray(['QUEUED', 'PROCESSING', 'DELIVERED', 'HELD', 'FAILED', 'CANCELLED'] as const),
    );
    const filter = fc.record({
      status,
      deadLettered: fc.option(fc.boolean()),
      awaitingApproval: fc.option(fc.boolean()),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.gen(),
        organizations,
        filter,
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom(...LIST_ORDERS),
        async (gen, scope, wanted, first, order) => {
          const [when, isIncluded] = gen(() => moment);
          const past = await pastOf(when, world.log);
          const rows: unknown[] = [];
          for (let after: string | null = null; ; ) {
            const page = await deliveries.list(past, wanted as DeliveryFilter, scope, { first, after, order });
            expect(page.edges.length).toBeLessThanOrEqual(first);
            rows.push(...page.edges.map(({ node }) => node.row));
            if (!page.hasNextPage) break;
            after = page.endCursor;
          }
          const expected = folded(isIncluded)
            .filter(isOf(scope))
            .map(deliveryRow)
            .filter(
              (row) =>
                (!wanted.status || wanted.status.includes(row.status as never)) &&
                (wanted.deadLettered === null || wanted.deadLettered === row.deadLettered) &&
                (wanted.awaitingApproval === null ||
                  wanted.awaitingApproval === row.holds.some(({ reason }) => reason === 'approval')),
            )
            .sort((a, b) => (a.requestedAt < b.requestedAt === (order === 'NEWEST_FIRST') ? 1 : -1));
          expect(rows).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('has the attempts that there were', async () => {
    const first = log.find(({ type }) => type === 'AttemptFailed') as RecordedEvent;
    const past = await pastOf({ position: first.position }, world.log);
    const { edges } = await deliveries.list(past, { status: ['PROCESSING'] }, 'all', { first: 10 });
    expect(edges.map(({ node }) => node.attempts.map(({ number, status }) => [number, status]))).toEqual([
      [[1, 'FAILED']],
    ]);
  });

  it.each<[string, () => Promise<Moment>, string]>([
    ['a time to come', async () => ({ at: new Date(Date.now() + 60_000) }), 'asOf.at'],
    ['a position to come', async () => ({ position: (await world.log.head()) + 1n }), 'asOf.position'],
  ])('is refused for %s', async (_, when, path) => {
    const refusal = await pastOf(await when(), world.log).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(BadQuery);
    expect(refusal).toMatchObject({ path });
  });
});

describe('the dashboard as of a moment', () => {
  it('is what a fold of the log up to there gives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.gen(),
        organizations,
        fc.constantFrom(...BUCKETS),
        fc.integer({ min: -3, max: 1 }),
        async (gen, scope, bucket, hours) => {
          const [when, isIncluded] = gen(() => moment);
          const [from, to] = [new Date(at(hours * 3_600)), new Date(at(3_600))];
          const rows = await dashboard.dashboard(await pastOf(when, world.log), scope, from, to, bucket);
          const expected = new Map<
            string,
            { total: number; delivered: number; pending: number; failed: number; recipients: number }
          >();
          for (const view of folded(isIncluded).filter(isOf(scope)))
            for (const { hour, channel, counts } of contributions(view)) {
              if (hour < from.toISOString() || hour >= to.toISOString()) continue;
              const key = `${bucketOf(hour, bucket)} ${channel}`;
              const row = expected.get(key) ?? { total: 0, delivered: 0, pending: 0, failed: 0, recipients: 0 };
              expected.set(key, row);
              for (const name of Object.keys(row) as (keyof typeof row)[]) row[name] += counts[name] ?? 0;
            }
          expect(
            Object.fromEntries(
              rows.map(({ bucket: start, channel, total, delivered, pending, failed: lost, recipients }) => [
                `${start} ${channel}`,
                { total, delivered, pending, failed: lost, recipients },
              ]),
            ),
          ).toEqual(Object.fromEntries(expected));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('as of now is the dashboard of now, every column', async () => {
    const [from, to] = [new Date(at(-86_400 * 40)), new Date(at(86_400))];
    const now = new DashboardQueries(world.reads);
    for (const bucket of BUCKETS as readonly Bucket[])
      for (const scope of ['all', [MINE]] as Organizations[])
        for (const when of [{ at: new Date() }, { position: await world.log.head() }])
          expect(await dashboard.dashboard(await pastOf(when, world.log), scope, from, to, bucket)).toEqual(
            await now.dashboard(scope, from, to, bucket),
          );
  });
});
