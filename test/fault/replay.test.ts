import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { client, type Delivery, fastRetry } from '../e2e/journeys.js';
import { databaseOf, digests } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "replay of any history: zero commands, zero provider calls". Histories with everything that makes the engine
 * act are read again in every way there is: asked for as they were at each moment, rebuilt, rolled back, and folded anew
 * by an engine that has nothing but the log. Nothing is sent, and nothing is recorded but who has looked.
 */
const dataDir = await mkdtemp(join(tmpdir(), 'waybill-replay-'));
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.kill();
  await removeDataDir(dataDir);
});

test('a replay makes no command and no call', { timeout: 240_000 }, async () => {
  const receiver = await startWebhookReceiver();
  let isWell = false;
  receiver.respond = ({ body }) => ({ status: isWell || !JSON.stringify(body).includes('refuse me') ? 204 : 500 });
  let running = await startWaybill({ dataDir });
  waybill = running;
  const destination = await client(running).destination(
    'WEBHOOK',
    { webhook: { url: receiver.url } },
    { retry: fastRetry },
  );
  const to = [{ destinationId: destination.id }];
  const request = async (input: object) => (await client(running).request({ to, ...input })).id;
  const ends: Record<string, string> = {
    [await request({})]: 'DELIVERED',
    [await request({ scheduledAt: new Date(Date.now() + 3_000).toISOString() })]: 'DELIVERED',
    [await request({ content: { text: 'refuse me' } })]: 'FAILED',
  };
  const approved = await request({ approval: { approvers: ['admin'] } });
  await client(running).act('approveDelivery', { id: approved });
  const rejected = await request({ approval: { approvers: ['admin'] } });
  await client(running).act('rejectDelivery', { id: rejected, reason: 'no' });
  const cancelled = await request({ approval: { approvers: ['admin'] } });
  await client(running).act('cancelDelivery', { id: cancelled });
  Object.assign(ends, { [approved]: 'DELIVERED', [rejected]: 'REJECTED', [cancelled]: 'CANCELLED' });
  const histories: Delivery[] = [];
  for (const [id, status] of Object.entries(ends)) histories.push(await client(running).until(id, status, 60_000));
  const sent = receiver.received.length;
  expect(sent).toBeGreaterThanOrEqual(4);
  // From here on whatever was sent again would be taken.
  isWell = true;

  for (const { id, history } of histories)
    for (const { position, revision } of history) {
      const then = await client(running).asOf(id, position);
      expect(then?.history.at(-1)).toMatchObject({ revision });
    }
  await expectSameAfterRebuild(running, () => digests({ dataDir }));
  await running.ask('mutation { rollbackProjection(name: "deliveries") { id } }');
  const rebuild = async () => (await running.ask('{ projections { name rebuild { kind state } } }')).projections;
  await expect
    .poll(rebuild, { timeout: 60_000, interval: 50 })
    .toContainEqual({ name: 'deliveries', rebuild: { kind: 'rollback', state: 'done' } });

  await running.kill();
  const sql = new pg.Client(await databaseOf({ dataDir }));
  await sql.connect();
  await sql.query('truncate engine_deliveries; update engine_partitions set position = 0');
  await sql.end();
  running = await startWaybill({ dataDir });
  waybill = running;
  // What comes last is done last: the engine is where the log ends.
  await client(running).until(await request({}), 'DELIVERED', 60_000);

  for (const before of histories)
    expect(await client(running).delivery(before.id)).toEqual({ ...before, asOf: expect.any(String) });
  expect(receiver.received).toHaveLength(sent + 1);
  await receiver.close();
});
