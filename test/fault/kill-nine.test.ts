import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { digests } from '../support/digests.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, rows 1 and 2: the process is killed with -9 again and again while deliveries are requested and sent.
 * Acknowledged is recorded, a client's retry gets the first result, and the receiver sees each delivery as one.
 *
 * The short form is part of the tests; `npm run test:fault` runs the long one.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 20_000 : 2_000;
const KILLS = isLong ? 50 : 10;
const BULK = 10;

const dataDir = await mkdtemp(join(tmpdir(), 'waybill-kill-nine-'));
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.stop();
  await removeDataDir(dataDir);
});

const REQUEST = `mutation ($inputs: [RequestDeliveryInput!]!, $key: String!) {
  requestDeliveries(inputs: $inputs, idempotencyKey: $key) { replayed delivery { id } }
}`;
interface Requested {
  readonly requestDeliveries: readonly { readonly delivery: { readonly id: string } }[];
}
const OPEN = `query { deliveries(first: 1, filter: { status: [HELD, QUEUED, PROCESSING] }) { totalCount } }`;
const DELIVERED = `query { deliveries(first: 1, filter: { status: [DELIVERED] }) { totalCount } }`;

interface Rebuilds {
  readonly projections: readonly { readonly state: string; readonly rebuild: { readonly state: string } | null }[];
}

test(`${DELIVERIES} deliveries, ${KILLS} times kill -9`, { timeout: isLong ? 1_200_000 : 180_000 }, async () => {
  const receiver = await startWebhookReceiver();
  const start = async () => {
    waybill = await startWaybill({ dataDir });
    return waybill;
  };
  let running = await start();
  const acknowledged = new Map<string, string[]>();
  let isDone = false;

  const killer = (async () => {
    for (let kills = 0; kills < KILLS; kills++) {
      // Each kill waits until work is under way again, so that it hits something.
      const before = receiver.received.length;
      const isUnderWay = () => isDone || receiver.received.length >= before + DELIVERIES / KILLS / 4;
      await expect.poll(isUnderWay, { timeout: 60_000, interval: 5 }).toBe(true);
      // Not a wait for anything: the kill is to come at any moment of what is going on.
      await delay(Math.random() * 150);
      await running.kill();
      running = await start();
    }
  })();

  for (let batch = 0; batch < DELIVERIES / BULK; batch++) {
    const key = `batch-${batch}`;
    const inputs = Array.from({ length: BULK }, (_, item) => ({
      organizationId: 'hospital-001',
      content: { text: `delivery ${batch}/${item}` },
      to: [{ channel: 'WEBHOOK', address: receiver.url }],
    }));
    // No answer: it was killed. The same call again, with the same key, is what clients are told to do.
    const refusals: unknown[] = [];
    const isAcknowledged = async () => {
      const answer = await running.graphql<Requested>(REQUEST, { inputs, key }).catch(() => undefined);
      refusals.push(...(answer?.errors ?? []));
      const ids = answer?.data?.requestDeliveries.map(({ delivery }) => delivery.id);
      if (ids) acknowledged.set(key, ids);
      return ids !== undefined;
    };
    await expect.poll(isAcknowledged, { timeout: 60_000, interval: 20 }).toBe(true);
    expect(refusals).toEqual([]);
  }
  isDone = true;
  await killer;

  await expect
    .poll(async () => (await running.graphql(OPEN)).data, { timeout: 60_000, interval: 100 })
    .toMatchObject({
      deliveries: { totalCount: 0 },
    });
  const ids = [...acknowledged.values()].flat();
  expect(new Set(ids).size).toBe(DELIVERIES);
  expect((await running.graphql(DELIVERED)).data).toMatchObject({ deliveries: { totalCount: DELIVERIES } });

  // The receiver may have had some twice, under the same id; it can tell, and none is missing or of nobody.
  const seen = new Set(receiver.received.map(({ headers }) => headers['webhook-id']));
  expect([...seen].sort()).toEqual(ids.map((id) => `${id}_1`).sort());

  const live = await digests(running);
  for (const name of Object.keys(live)) await running.ask(`mutation { rebuildProjection(name: "${name}") { id } }`);
  const REBUILDS = '{ projections { state rebuild { state } } }';
  await expect
    .poll(async () => (await running.ask<Rebuilds>(REBUILDS)).projections, { timeout: 60_000, interval: 100 })
    .toEqual(Object.keys(live).map(() => ({ state: 'running', rebuild: { state: 'done' } })));
  expect(await digests(running)).toEqual(live);
  await receiver.close();
});
