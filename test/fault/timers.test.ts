import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { client, type Delivery, types } from '../e2e/journeys.js';
import { databaseOf, digests } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "kill -9 of the process around timers": a schedule, a deadline, an expiry and a retry, each of which must
 * happen exactly once in the delivery's history whenever the process dies and whatever became of the table of timers.
 */
const dataDir = await mkdtemp(join(tmpdir(), 'waybill-timers-'));
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.kill();
  await removeDataDir(dataDir);
});

/** Until the times come; long enough to be killed before. */
const AHEAD_MS = 6_000;
const wait = { timeout: 60_000, interval: 50 };

const EXPECTED = {
  schedule: ['DeliveryRequested', 'ScheduleReached', 'AttemptSucceeded'],
  deadline: ['DeliveryRequested', 'ApprovalTimedOut'],
  expiry: ['DeliveryRequested', 'DeliveryExpired'],
  retry: ['DeliveryRequested', 'AttemptFailed', 'RetryScheduled', 'AttemptSucceeded'],
};
type Timed = Record<keyof typeof EXPECTED, string>;

/** @param checkpointIntervalMs how often timers are stored */
async function start(checkpointIntervalMs: number) {
  const file = join(dataDir, `every-${checkpointIntervalMs}.yaml`);
  await writeFile(file, JSON.stringify({ engine: { checkpointIntervalMs } }));
  waybill = await startWaybill({ dataDir, env: { WAYBILL_CONFIG: file } });
  return { waybill, api: client(waybill) };
}

/** The rows of the table of timers, of these deliveries; also while no Waybill runs. */
async function sql<Row extends object>(query: string, values: unknown[] = []): Promise<Row[]> {
  const connection = new pg.Client(await databaseOf({ dataDir }));
  await connection.connect();
  try {
    return (await connection.query(query, values)).rows;
  } finally {
    await connection.end();
  }
}
const rowsOf = async (timed: Timed) => {
  const rows = await sql('SELECT FROM engine_deliveries WHERE delivery_id = ANY ($1)', [Object.values(timed)]);
  return rows.length;
};

test('kill -9 around timers, and a table of timers that was emptied', { timeout: 300_000 }, async () => {
  const receiver = await startWebhookReceiver();
  const refusedOnce = new Set<string>();
  receiver.respond = ({ headers, path }) => {
    const id = headers['webhook-id'] as string;
    if (!path.endsWith('/later') || refusedOnce.has(id)) return { status: 204 };
    refusedOnce.add(id);
    return { status: 503 };
  };
  let running = await start(60_000);
  const retry = { strategy: 'FIXED', maxAttempts: 2, initialDelayMs: AHEAD_MS, jitter: 0 };
  const later = await running.api.destination('WEBHOOK', { webhook: { url: `${receiver.url}/later` } }, { retry });

  const request = async (): Promise<Timed> => {
    const { api } = running;
    const at = new Date(Date.now() + AHEAD_MS).toISOString();
    const to = [{ channel: 'WEBHOOK', address: receiver.url }];
    const approvers = ['admin'];
    const [schedule, deadline, expiry, retried] = await Promise.all([
      api.request({ to, scheduledAt: at }),
      api.request({ to, approval: { approvers, timeoutSeconds: AHEAD_MS / 1_000 } }),
      api.request({ to, approval: { approvers }, expiresAt: at }),
      api.request({ to: [{ destinationId: later.id }] }),
    ]);
    const scheduled = async () =>
      (await api.delivery(retried.id)).history.some(({ type }) => type === 'RetryScheduled');
    await expect.poll(scheduled, wait).toBe(true);
    return { schedule: schedule.id, deadline: deadline.id, expiry: expiry.id, retry: retried.id };
  };
  const histories = async (timed: Timed): Promise<Record<string, string[]>> => {
    const { deliveries } = await running.waybill.ask<{ deliveries: { edges: { node: Delivery }[] } }>(
      '{ deliveries(first: 100) { edges { node { id history { type } } } } }',
    );
    const found = new Map(deliveries.edges.map(({ node }) => [node.id, types(node)]));
    return Object.fromEntries(Object.entries(timed).map(([what, id]) => [what, found.get(id) ?? []]));
  };
  const untilEnded = (timed: Timed) => expect.poll(() => histories(timed), wait).toEqual(EXPECTED);
  const kill = () => running.waybill.kill();
  const all: Timed[] = [];

  // Set and not stored: the checkpoint that would have stored them is a minute away.
  const unstored = await request();
  await kill();
  expect(await rowsOf(unstored)).toBe(0);
  running = await start(60_000);
  await untilEnded(unstored);
  all.push(unstored);

  // Fired and not cleared: stored by a stop in good order, fired after the next start, whose checkpoint never comes.
  const uncleared = await request();
  await running.waybill.stop();
  running = await start(60_000);
  await untilEnded(uncleared);
  await kill();
  expect(await rowsOf(uncleared)).toBe(4);
  running = await start(100);
  await expect.poll(() => rowsOf(uncleared), wait).toBe(0);
  all.push(uncleared);

  // Due and not fired: it is not there when their times come.
  const missed = await request();
  await expect.poll(() => rowsOf(missed), wait).toBe(4);
  await kill();
  // Nobody is there while they come due.
  await delay(AHEAD_MS);
  running = await start(100);
  await untilEnded(missed);
  all.push(missed);

  // The table of timers is emptied, with the marks that it was ever filled.
  const lost = await request();
  await expect.poll(() => rowsOf(lost), wait).toBe(4);
  await kill();
  await sql('TRUNCATE engine_deliveries');
  running = await start(100);
  await untilEnded(lost);
  all.push(lost);

  // Nothing has happened twice since, and the receiver had each once, or once again after its refusal.
  for (const timed of all) expect(await histories(timed)).toEqual(EXPECTED);
  const came = (id: string) => receiver.received.filter(({ headers }) => headers['webhook-id'] === `${id}_1`).length;
  expect(all.map(({ schedule, deadline, expiry }) => [schedule, deadline, expiry].map(came))).toEqual(
    all.map(() => [1, 0, 0]),
  );
  expect(all.map((timed) => came(timed.retry))).toEqual(all.map(() => 2));
  await expectSameAfterRebuild(running.waybill, () => digests({ dataDir }));
  await receiver.close();
});
