import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { client } from '../e2e/journeys.js';
import { digests } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "poison event: handler throws, handler kills the process": with a Waybill into whose read models a mistake
 * was put. What cannot be handled is kept aside with what follows in its stream, everything else goes on, and once the
 * mistake is mended the rows are those that would have been there without it.
 */
const isLong = process.env.FAULT_LONG === '1';
const POLL = { timeout: 60_000, interval: 50 };
const mistaken = ['--import', new URL('../support/poison.mjs', import.meta.url).href];

let receiver: WebhookReceiver;
let dataDir: string;
let waybill: WaybillProcess | undefined;

beforeEach(async () => {
  receiver = await startWebhookReceiver();
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-poison-'));
});
afterEach(async () => {
  await waybill?.kill();
  await removeDataDir(dataDir);
  await receiver.close();
});

const start = async (nodeOptions: readonly string[] = []) => {
  waybill = await startWaybill({ dataDir, nodeOptions });
  return waybill;
};

interface Parked {
  readonly stream: string;
  readonly type: string;
  readonly error: string;
}
const parkedOf = async (running: WaybillProcess) =>
  (await running.ask<{ parkedEvents: Parked[] }>('{ parkedEvents(projection: "deliveries") { stream type error } }'))
    .parkedEvents;

const poisoned = (poison: string) => ({ to: [{ channel: 'WEBHOOK', address: receiver.url }], metadata: { poison } });

test('what read models cannot handle is kept aside until they can', { timeout: 240_000 }, async () => {
  let running = await start(mistaken);
  const { id } = await client(running).request(poisoned('throw'));
  const others = await Promise.all(
    Array.from({ length: 20 }, () => client(running).request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] })),
  );
  for (const other of others) await client(running).until(other.id, 'DELIVERED', 60_000);
  // It was sent all the same: what cannot be shown is not lost.
  await expect.poll(() => receiver.received.length, POLL).toBe(21);
  const stream = `delivery-${id}`;
  await expect
    .poll(() => parkedOf(running), POLL)
    .toEqual([
      { stream, type: 'DeliveryRequested', error: 'this program cannot handle it' },
      { stream, type: 'AttemptSucceeded', error: expect.any(String) },
    ]);
  const states = '{ projections { name state parked } }';
  const { projections } = await running.ask<{ projections: { name: string; state: string; parked: number }[] }>(states);
  expect(projections).toContainEqual({ name: 'deliveries', state: 'running', parked: 2 });
  const retry = 'mutation { retryParked(projection: "deliveries") }';
  // The mistake is still there.
  expect(await running.ask(retry)).toEqual({ retryParked: 2 });
  await expect.poll(async () => (await parkedOf(running)).length, POLL).toBe(2);
  await running.stop();

  running = await start();
  expect(await parkedOf(running)).toHaveLength(2);
  expect(await running.ask(retry)).toEqual({ retryParked: 2 });
  await expect.poll(() => parkedOf(running), POLL).toEqual([]);
  await client(running).until(id, 'DELIVERED');
  await expectSameAfterRebuild(running, () => digests({ dataDir }));
  expect(receiver.received).toHaveLength(21);
});

/** Three deaths while it handles a batch, and three while it handles that event alone: each is a start of a process. */
if (isLong)
  test('what kills the process is counted before it is handled, and kept aside', { timeout: 600_000 }, async () => {
    let running = await start(mistaken);
    const before = await client(running).request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
    await client(running).until(before.id, 'DELIVERED');
    // The answer may come after its death.
    await client(running)
      .request(poisoned('kill'))
      .catch(() => undefined);
    let deaths = 0;
    for (;;) {
      const death = await running.exited.then(() => true);
      expect(death).toBe(true);
      deaths++;
      const next = await start(mistaken).catch(() => undefined);
      if (!next) continue;
      running = next;
      const isOver = expect
        .poll(async () => (await parkedOf(running)).length, POLL)
        .toBeGreaterThan(0)
        .then(
          () => true,
          () => false,
        );
      if (await Promise.race([isOver, running.exited.then(() => false)])) break;
    }
    // The first may have been in the session in which what came before it was handled: only starts are counted.
    expect([6, 7]).toContain(deaths);
    expect(await parkedOf(running)).toMatchObject([
      { type: 'DeliveryRequested', error: 'the program has died 3 times while it handled this event' },
      { type: 'AttemptSucceeded' },
    ]);
    const after = await client(running).request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
    await client(running).until(after.id, 'DELIVERED');
    await running.stop();
    running = await start();
    for (const name of Object.keys(await digests({ dataDir })))
      await running.ask(`mutation { retryParked(projection: "${name}") }`);
    await expect.poll(() => parkedOf(running), POLL).toEqual([]);
    await expectSameAfterRebuild(running, () => digests({ dataDir }));
  });
