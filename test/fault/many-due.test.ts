import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { client, ORGANIZATION } from '../e2e/journeys.js';
import { databaseOf } from '../support/digests.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "down past 100,000 due times, then start": all of them fire, by priority and due time, within the limits of
 * the destination, while Waybill goes on answering.
 *
 * The short form is part of the tests; `npm run test:fault` runs the long one.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 100_000 : 1_000;
const BULK = 500;
const CONCURRENCY = 6;
const PRIORITIES = ['LOW', 'NORMAL', 'HIGH', 'URGENT'] as const;
/** Of each priority, how far from its turn a delivery may come: those that are loaded together take their turns together. */
const LOADED_TOGETHER = 1_000;

const dataDir = await mkdtemp(join(tmpdir(), 'waybill-many-due-'));
let waybill: WaybillProcess | undefined;
afterAll(async () => {
  await waybill?.kill();
  await removeDataDir(dataDir);
});

const REQUEST = `mutation ($inputs: [RequestDeliveryInput!]!) {
  requestDeliveries(inputs: $inputs) { delivery { id } }
}`;

test(`${DELIVERIES} become due while it is down`, { timeout: isLong ? 3_600_000 : 240_000 }, async () => {
  let [now, most] = [0, 0];
  /** Ids in the order in which they came. */
  const came: string[] = [];
  const receiver = await startWebhookReceiver({ record: false });
  receiver.respond = async ({ headers }) => {
    most = Math.max(most, ++now);
    came.push((headers['webhook-id'] as string).replace(/_1$/, ''));
    await delay(5); // what each takes, so that some are there at once
    now--;
    return { status: 204 };
  };
  waybill = await startWaybill({ dataDir });
  const { id: destinationId } = await client(waybill).destination(
    'WEBHOOK',
    { webhook: { url: receiver.url } },
    { limits: { concurrency: CONCURRENCY } },
  );
  // Of each priority in the order of their due times, the least urgent due first.
  const dueMs = Date.now() + (isLong ? 240_000 : 15_000);
  const byPriority = PRIORITIES.map(() => [] as string[]);
  for (let first = 0; first < DELIVERIES; first += BULK) {
    const inputs = Array.from({ length: BULK }, (_, item) => ({
      organizationId: ORGANIZATION,
      content: { text: `${first + item}` },
      to: [{ destinationId }],
      priority: PRIORITIES[(first + item) % 4],
      scheduledAt: new Date(dueMs + first + item).toISOString(),
    }));
    const { requestDeliveries } = await waybill.ask<{ requestDeliveries: { delivery: { id: string } }[] }>(REQUEST, {
      inputs,
    });
    for (const [item, { delivery }] of requestDeliveries.entries()) byPriority[(first + item) % 4]?.push(delivery.id);
  }
  // Those that a checkpoint has not stored would be loaded before all others, from the log.
  const database = new pg.Client(await databaseOf({ dataDir }));
  await database.connect();
  const stored = async () =>
    (await database.query('SELECT count(*)::integer AS n FROM engine_deliveries WHERE due_at IS NOT NULL')).rows[0].n;
  await expect.poll(stored, { timeout: 60_000, interval: 50 }).toBe(DELIVERIES);
  await database.end();
  expect(Date.now()).toBeLessThan(dueMs);
  await waybill.kill();
  expect(came).toEqual([]);
  // Nobody is there while they come due.
  await expect.poll(Date.now, { timeout: isLong ? 600_000 : 60_000, interval: 50 }).toBeGreaterThan(dueMs + DELIVERIES);

  waybill = await startWaybill({ dataDir });
  const running = waybill;
  // It answers, and takes requests, while it works off what has become due.
  let longestMs = 0;
  const cameWhileAsked = async () => {
    const askedAt = performance.now();
    await running.ask('{ projections { name } }');
    longestMs = Math.max(longestMs, performance.now() - askedAt);
    return new Set(came).size;
  };
  await expect.poll(cameWhileAsked, { timeout: isLong ? 3_000_000 : 180_000, interval: 100 }).toBe(DELIVERIES);
  expect(longestMs).toBeLessThan(10_000);
  expect(most).toBeLessThanOrEqual(CONCURRENCY);
  // Nobody was killed meanwhile, so each came once.
  expect(came).toHaveLength(DELIVERIES);

  const turn = new Map(came.map((id, index) => [id, index]));
  const turns = byPriority.map((ids) => ids.map((id) => turn.get(id) as number));
  // The more urgent, the earlier on the whole …
  const means = turns.map((each) => each.reduce((sum, at) => sum + at, 0) / each.length);
  expect(means).toEqual(means.toSorted((a, b) => b - a));
  // … and within a priority by due time, but for those that are loaded and started together.
  for (const each of turns) {
    const ranks = new Map(each.toSorted((a, b) => a - b).map((at, rank) => [at, rank]));
    const farthest = Math.max(...each.map((at, due) => Math.abs((ranks.get(at) as number) - due)));
    expect(farthest).toBeLessThan(Math.min(LOADED_TOGETHER, DELIVERIES / 16));
  }
  const counts = '{ deliveries(first: 1, filter: { status: [DELIVERED] }) { totalCount } }';
  await expect
    .poll(() => running.ask(counts), { timeout: 60_000, interval: 100 })
    .toEqual({ deliveries: { totalCount: DELIVERIES } });
  await receiver.close();
});
