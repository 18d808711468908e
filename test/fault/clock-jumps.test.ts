import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LEASE_TTL_SECONDS } from '../../src/sagas/engine-store.js';
import { Cluster, type Instance } from '../support/cluster.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';

/**
 * FAULTS.md, "clock jumps ±10 min on one instance": leases and timers follow the database's clock, so neither is anything
 * sent before its time, nor does anything wait for longer, nor does an instance lose what it holds or take what others
 * have. A module that is loaded before Waybill sets the clock of one of its two processes.
 */
const TEN_MINUTES_MS = 600_000;
/** Until what is scheduled before a jump is due. */
const AHEAD_MS = 10_000;
/** Before the first due time by our own clock, which is not the one that Waybill's timers follow. */
const EARLY_MS = 250;
const DELIVERIES = 32;
const wait = { timeout: 30_000, interval: 50 };

let cluster: Cluster;
let receiver: WebhookReceiver;
let folder: string;
let wrong: Instance;

beforeAll(async () => {
  [cluster, receiver, folder] = await Promise.all([
    Cluster.open(),
    startWebhookReceiver(),
    mkdtemp(join(tmpdir(), 'waybill-clock-')),
  ]);
  const clock = new URL('../support/shift-clock.mjs', import.meta.url).href;
  await cluster.join();
  wrong = await cluster.join({ nodeOptions: ['--import', clock], env: { CLOCK_SHIFT: join(folder, 'shift') } });
}, 240_000);
afterAll(async () => {
  await cluster.close();
  await receiver.close();
  await rm(folder, { recursive: true, force: true });
});

/** It has jumped once one of its own records is dated so: that of a destination that it makes, which no shared clock dates. */
async function jump(shiftMs: number): Promise<void> {
  await writeFile(join(folder, 'shift'), String(shiftMs));
  const offBy = async () => {
    const { createDestination } = await wrong.waybill.ask<{ createDestination: { id: string } }>(
      'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
      {
        input: {
          ...{ organizationId: 'hospital-001', label: 'clock', type: 'WEBHOOK' },
          config: { webhook: { url: receiver.url } },
        },
      },
    );
    const { rows } = await cluster.sql.query<{ off: number }>(
      'SELECT extract(epoch FROM created_at - now())::float8 * 1000 AS off FROM destinations WHERE id = $1',
      [createDestination.id],
    );
    return Math.abs((rows[0]?.off ?? Number.POSITIVE_INFINITY) - shiftMs);
  };
  await expect.poll(offBy, wait).toBeLessThan(60_000);
}

const webhook = (more: object) => ({
  organizationId: 'hospital-001',
  content: { text: 'on time' },
  to: [{ channel: 'WEBHOOK', address: receiver.url }],
  ...more,
});

it.each([
  ['forward', TEN_MINUTES_MS],
  ['back', -TEN_MINUTES_MS],
])('a clock that jumps ten minutes %s moves no lease and no timer', { timeout: 120_000 }, async (name, shiftMs) => {
  await expect.poll(() => cluster.shares(), wait).toEqual([8, 8]);
  const owners = async () => {
    const { rows } = await cluster.sql.query(
      'SELECT partition, owner, epoch FROM engine_partitions ORDER BY partition',
    );
    return rows;
  };
  const before = await owners();
  const dueMs = Date.now() + AHEAD_MS;
  const scheduled = { scheduledAt: new Date(dueMs).toISOString() };
  const approval = { approvers: ['admin'], timeoutSeconds: AHEAD_MS / 1_000 };
  const firsts = await cluster.request(
    `${name} before`,
    Array.from({ length: DELIVERIES }, (_, n) => webhook(n % 2 ? scheduled : { approval })),
  );
  await jump(shiftMs);
  const leasesEnd = `SELECT min(expires_at) AS ends FROM engine_partitions`;
  const atJump = (await cluster.sql.query<{ ends: Date }>(leasesEnd)).rows[0]?.ends as Date;

  // What the wrong instance is asked for now is counted from the right time, too.
  const laterMs = Date.now() + AHEAD_MS;
  const { requestDeliveries } = await wrong.waybill.ask<{ requestDeliveries: { delivery: { id: string } }[] }>(
    'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
    {
      inputs: Array.from({ length: DELIVERIES }, () => webhook({ scheduledAt: new Date(laterMs).toISOString() })),
    },
  );
  const seconds = requestDeliveries.map(({ delivery }) => delivery.id);
  const sent = [...firsts.filter((_, n) => n % 2), ...seconds];
  const arrivals = () =>
    new Map(receiver.received.map(({ headers, at }) => [(headers['webhook-id'] as string).replace(/_1$/, ''), at]));
  await expect.poll(() => sent.filter((id) => !arrivals().has(id)), wait).toEqual([]);
  const came = arrivals();
  for (const id of sent) {
    const due = seconds.includes(id) ? laterMs : dueMs;
    expect((came.get(id) as Date).getTime()).toBeGreaterThanOrEqual(due - EARLY_MS);
  }
  const rejected = async () => {
    const { rows } = await cluster.sql.query<{ n: number }>(
      `SELECT count(*)::integer AS n FROM deliveries WHERE id = ANY ($1::uuid[]) AND status = 'REJECTED'`,
      [firsts.filter((_, n) => n % 2 === 0)],
    );
    return rows[0]?.n;
  };
  await expect.poll(rejected, wait).toBe(DELIVERIES / 2);
  // Those of then would be over: they have all been renewed since, by those who had them.
  const renewedForMs = async () => {
    const { rows } = await cluster.sql.query<{ ends: Date }>(leasesEnd);
    return (rows[0]?.ends.getTime() ?? 0) - atJump.getTime();
  };
  await expect.poll(renewedForMs, wait).toBeGreaterThan(LEASE_TTL_SECONDS * 1_000);
  expect(await owners()).toEqual(before);
  expect(await cluster.shares()).toEqual([8, 8]);
  await jump(0);
});
