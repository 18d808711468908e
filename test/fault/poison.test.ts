import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { client } from '../e2e/journeys.js';
import { databaseOf, digests } from '../support/digests.js';
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
const listed = async <Fields>(running: WaybillProcess, fields: string) =>
  (await running.ask<{ parkedEvents: Fields[] }>(`{ parkedEvents(projection: "deliveries") { ${fields} } }`))
    .parkedEvents;
const parkedOf = (running: WaybillProcess) => listed<Parked>(running, 'stream type error');
const attemptsOf = async (running: WaybillProcess) =>
  (await listed<{ attempts: number }>(running, 'attempts')).map(({ attempts }) => attempts);

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
  const states = async () =>
    (await running.ask<{ projections: object[] }>('{ projections { name state parked } }')).projections;
  // The rows can be read a little before it is known that there is nothing more to store.
  await expect.poll(states, POLL).toContainEqual({ name: 'deliveries', state: 'running', parked: 2 });
  const retry = 'mutation { retryParked(projection: "deliveries") }';
  // The mistake is still there.
  const tried = await attemptsOf(running);
  expect(await running.ask(retry)).toEqual({ retryParked: 2 });
  // What is wanted is tried by the next start too: it is over only when it was tried.
  await expect.poll(() => attemptsOf(running), POLL).toEqual(tried.map((attempts) => attempts + 1));
  await running.stop();

  running = await start();
  expect(await parkedOf(running)).toHaveLength(2);
  expect(await running.ask(retry)).toEqual({ retryParked: 2 });
  await expect.poll(() => parkedOf(running), POLL).toEqual([]);
  await client(running).until(id, 'DELIVERED');
  await expectSameAfterRebuild(running, () => digests({ dataDir }));
  expect(receiver.received).toHaveLength(21);
});

/** Ends the connection of the read models, and waits until the next one has begun where this one was. */
async function beginAnew(): Promise<void> {
  const sql = new pg.Client(await databaseOf({ dataDir }));
  await sql.connect();
  try {
    const has = async (query: string) => (await sql.query(query)).rowCount;
    const sessions = `from pg_stat_activity where application_name like 'waybill-projections/%'`;
    const begun = `select from projection_checkpoints where name = 'deliveries' and tried = position`;
    expect(await has(begun)).toBe(0);
    expect(await has(`select pg_terminate_backend(pid) ${sessions}`)).toBe(1);
    await expect.poll(() => has(begun), POLL).toBe(1);
  } finally {
    await sql.end();
  }
}

/**
 * One death of the program that has got on since its start, three of programs that die of the first batch, and three that
 * handle the event alone. That the first has lost its connection between, and begun anew, is no start of a program.
 */
if (isLong)
  test('what kills the process is counted before it is handled, and kept aside', { timeout: 600_000 }, async () => {
    let running = await start(mistaken);
    const before = await client(running).request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
    await client(running).until(before.id, 'DELIVERED');
    await beginAnew();
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
    expect(deaths).toBe(7);
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
