import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeliveryEvent } from '../../../src/domain/delivery-events.js';
import { attemptsOf } from '../../../src/projections/attempts.js';
import { AttemptQueries } from '../../../src/projections/attempts-query.js';
import { DashboardQueries } from '../../../src/projections/dashboard-query.js';
import { deliveryRow } from '../../../src/projections/deliveries.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import { DestinationQueries } from '../../../src/projections/destinations-query.js';
import type { ProjectionRunner } from '../../../src/projections/runner/projection-runner.js';
import { deliveries, viewOf } from '../../../src/projections/views.js';
import { at, attempt, failed, failure, newDelivery, ORGANIZATION, requested, sent, World } from './world.js';

let world: World;
let runner: ProjectionRunner;

beforeAll(async () => {
  world = await World.create();
  runner = world.runner();
  runner.start();
});
afterAll(() => world.close());

/** What the queries answer for a delivery with this history. */
async function shown(id: string, ...events: DeliveryEvent[]) {
  await world.record(`delivery-${id}`, ...events);
  await world.shown(runner);
  const row = await new DeliveryQueries(world.reads).find(id, [ORGANIZATION]);
  const [attempts] = await new AttemptQueries(world.reads).ofDeliveries([id], [ORGANIZATION]);
  const decoded = (await world.log.readStream(`delivery-${id}`)).map((event) =>
    world.codec.decode<DeliveryEvent>(event),
  );
  const view = viewOf(deliveries, id, decoded);
  return { row, attempts, fromLog: view && deliveryRow(view), attemptsFromLog: attemptsOf(id, decoded) };
}

describe('a delivery as it is read', () => {
  it.each<[string, DeliveryEvent[], object]>([
    ['requested', [requested()], { status: 'QUEUED', completedAt: null, revision: 0 }],
    [
      'held until its time',
      [requested({ scheduledAt: at(60) })],
      { status: 'HELD', holds: [{ reason: 'schedule', until: at(60) }], scheduledAt: at(60) },
    ],
    ['sent', [requested(), sent()], { status: 'DELIVERED', completedAt: at(2), deadLettered: false }],
    ['to be retried', [requested(), ...failed()], { status: 'PROCESSING', completedAt: null }],
    [
      'dead-lettered',
      [
        requested(),
        { type: 'AttemptFailed', at: at(2), data: { ...attempt(1), failure } },
        { type: 'LegDeadLettered', at: at(2), data: { leg: 1, failure } },
      ],
      { status: 'FAILED', completedAt: at(2), deadLettered: true },
    ],
    [
      'cancelled, and an attempt that was under way',
      [
        requested(),
        { type: 'AttemptStarted', at: at(1), data: attempt(1) },
        { type: 'DeliveryCancelled', at: at(2), data: { by: 'ada' } },
        { type: 'AttemptFailed', at: at(3), data: { ...attempt(1), failure } },
      ],
      { status: 'CANCELLED', completedAt: at(2), updatedAt: at(3) },
    ],
    [
      'with everything a request can have',
      [
        requested({
          tags: ['a "quoted" tag', 'ünïcode \\ and more'],
          metadata: { nested: [1, { deep: null }] },
          correlationId: 'c-1',
          idempotencyKey: 'k-1',
          expiresAt: at(600),
          priority: 'URGENT',
        }),
      ],
      {
        tags: ['a "quoted" tag', 'ünïcode \\ and more'],
        metadata: { nested: [1, { deep: null }] },
        correlationId: 'c-1',
      },
    ],
  ])('%s', async (_, events, expected) => {
    const { id } = newDelivery();
    const { row, attempts, fromLog, attemptsFromLog } = await shown(id, ...events);
    expect(row).toMatchObject(expected);
    expect({ ...row }).toEqual(fromLog);
    expect(attempts).toEqual(attemptsFromLog);
  });

  it('keeps characters that Postgres cannot store out of it, and everything else in', async () => {
    const { id } = newDelivery();
    const { row } = await shown(id, requested({ tags: ['a\0b'], metadata: { 'k\0': 'x\0y\ud800z', ok: '\\u0000' } }));
    expect(row?.tags).toEqual(['a\ufffdb']);
    expect(row?.metadata).toEqual({ 'k\ufffd': 'x\ufffdy\ufffdz', ok: '\\u0000' });
  });

  it('shows each attempt once, as its newest event says', async () => {
    const { id } = newDelivery();
    const { attempts } = await shown(
      id,
      requested(),
      { type: 'AttemptStarted', at: at(1), data: attempt(1) },
      ...failed(1, 3),
      { type: 'AttemptStarted', at: at(13), data: attempt(2, 13) },
      { type: 'AttemptInDoubt', at: at(20), data: { ...attempt(2, 13), resolution: 'resend' } },
      sent(3, 30),
    );
    expect(attempts?.map(({ id: attemptId, status, completedAt }) => [attemptId, status, completedAt])).toEqual([
      [`${id}-1-1`, 'FAILED', at(3)],
      [`${id}-1-2`, 'IN_DOUBT', null],
      [`${id}-1-3`, 'SUCCEEDED', at(30)],
    ]);
    expect(attempts?.[0]?.error).toEqual(failure);
  });

  it('is updated, not doubled, batch after batch', async () => {
    const { id } = newDelivery();
    await shown(id, requested());
    await shown(id, ...failed());
    const { row, fromLog } = await shown(id, sent(2, 20));
    expect(row).toMatchObject({ status: 'DELIVERED', completedAt: at(20), revision: 3 });
    expect({ ...row }).toEqual(fromLog);
  });
});

describe('a destination as it is read', () => {
  const definition = (label: string) => ({
    organizationId: ORGANIZATION,
    label,
    type: 'WEBHOOK' as const,
    config: { url: 'https://example.com', token: '********' },
    secrets: { token: 'the very secret' },
    isDefault: true,
  });
  const queries = () => new DestinationQueries(world.reads);

  it('never has its secrets, anywhere', async () => {
    const id = randomUUID();
    await world.record(
      `destination-${id}`,
      { type: 'DestinationCreated', at: at(0), data: definition('hidden') },
      { type: 'DestinationSecretRotated', at: at(1), data: { config: {}, secrets: { token: 'the very secret' } } },
    );
    await world.shown(runner);
    expect(await queries().find(id, 'all')).toMatchObject({ label: 'hidden', enabled: true, updatedAt: at(1) });
    const all = await world.rows('select d::text as row from destinations d');
    expect(JSON.stringify(all)).not.toContain('very secret');
  });

  it('counts successes and failures in the order of the log, over all deliveries', async () => {
    const id = randomUUID();
    await world.record(`destination-${id}`, { type: 'DestinationCreated', at: at(0), data: definition('counted') });
    const to = (event: DeliveryEvent): DeliveryEvent =>
      ({ ...event, data: { ...event.data, destinationId: id } }) as DeliveryEvent;
    const [first, second] = [newDelivery(), newDelivery()];
    await world.record(first.stream, requested(), ...failed(1, 2).map(to));
    await world.record(second.stream, requested(), to(sent(1, 3)));
    await world.record(first.stream, ...failed(2, 5).map(to));
    await world.record(first.stream, ...failed(3, 6).map(to));
    await world.record(first.stream, ...failed(4, 7).map(to));
    await world.shown(runner);
    expect((await queries().find(id, 'all'))?.health).toEqual({
      status: 'degraded',
      consecutiveFailures: 3,
      totalFailures: 4,
      totalDeliveries: 5,
      averageResponseMs: 1_000,
      lastSuccessAt: at(3),
      lastFailureAt: at(7),
      circuit: 'closed',
    });
  });

  it('is disabled, enabled and deleted', async () => {
    const id = randomUUID();
    const stream = `destination-${id}`;
    const mine = randomUUID();
    await world.record(stream, {
      type: 'DestinationCreated',
      at: at(0),
      data: { ...definition('changing'), organizationId: mine },
    });
    await world.record(stream, { type: 'DestinationDisabled', at: at(1), data: { reason: 'too many failures' } });
    await world.shown(runner);
    expect(await queries().find(id, [mine])).toMatchObject({
      enabled: false,
      disabledReason: 'too many failures',
      health: { status: 'disabled' },
    });
    expect(await queries().defaultsOf(mine)).toEqual([]);
    await world.record(stream, { type: 'DestinationEnabled', at: at(2), data: {} });
    await world.shown(runner);
    expect((await queries().defaultsOf(mine)).map((one) => one.id)).toEqual([id]);
    expect(await queries().list([ORGANIZATION])).not.toContainEqual(expect.objectContaining({ id }));
    await world.record(stream, { type: 'DestinationDeleted', at: at(3), data: {} });
    await world.shown(runner);
    expect(await queries().find(id, 'all')).toBeUndefined();
  });
});

describe('the dashboard', () => {
  it('counts legs by the time of their request and the channel they were meant for', async () => {
    const organizationId = randomUUID();
    const request = (seconds: number, slaSeconds?: number) =>
      requested({ organizationId, priority: 'HIGH', ...(slaSeconds !== undefined && { slaSeconds }) }, seconds);
    await world.record(newDelivery().stream, request(0, 1), sent(1, 2));
    await world.record(newDelivery().stream, request(0, 10), ...failed(1, 2), sent(2, 4));
    await world.record(newDelivery().stream, request(0, 10));
    await world.record(newDelivery().stream, request(86_400));
    await world.shown(runner);

    const queries = new DashboardQueries(world.reads);
    const rows = await queries.dashboard([organizationId], at(0), at(2 * 86_400), 'day');
    expect(rows).toEqual([
      expect.objectContaining({ bucket: '2026-03-03T00:00:00.000Z', total: 1, pending: 1, slaCompliance: null }),
      {
        bucket: '2026-03-02T00:00:00.000Z',
        channel: 'WEBHOOK',
        total: 3,
        delivered: 2,
        failed: 0,
        pending: 1,
        averageProcessingMs: 1_000,
        averageDeliveryMs: 3_000,
        slaCompliance: 0.5,
        errorCategories: ['NETWORK'],
        recipients: 3,
        highPriority: 3,
      },
    ]);
    const [month] = await queries.dashboard('all', at(0), at(2 * 86_400), 'month');
    expect(month).toMatchObject({ bucket: '2026-03-01T00:00:00.000Z' });
    expect(await queries.dashboard([randomUUID()], at(0), at(2 * 86_400), 'hour')).toEqual([]);
  });
});
