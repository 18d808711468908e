import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DeliveryEvent } from '../src/domain/delivery-events.js';
import { EventCodec } from '../src/event-store/codec.js';
import { EmbeddedLog } from '../src/event-store/embedded-log.js';
import { openDatabase } from '../src/platform/database.js';
import { ProjectionRunner } from '../src/projections/runner/projection-runner.js';
import { testDatabase } from '../test/support/postgres.js';

/**
 * How fast read models are made: a log of deliveries that were requested and sent, all projections from its beginning,
 * then one of them again. Log reader, fold and Postgres share the machine.
 *
 *     node --import ./scripts/ts-loader.mjs bench/projections.ts [deliveries, default 100,000]
 */
const deliveryCount = Number(process.argv[2] ?? 100_000);
const BODY = { orderId: 'A-1', note: 'x'.repeat(450) };
const codec = new EventCodec();

async function fill(log: EmbeddedLog): Promise<void> {
  const organizationId = randomUUID();
  const destinationId = randomUUID();
  const startedAt = Date.parse('2026-03-01T00:00:00.000Z');
  let waiting: Promise<unknown>[] = [];
  for (let index = 0; index < deliveryCount; index++) {
    const at = new Date(startedAt + index).toISOString();
    const requested: DeliveryEvent = {
      type: 'DeliveryRequested',
      at,
      data: {
        organizationId,
        priority: 'NORMAL',
        legs: [{ leg: 1, routes: [{ channel: 'WEBHOOK', destinationId }], recipients: 1 }],
        content: { data: BODY },
        tags: [],
      },
    };
    const sent: DeliveryEvent = {
      type: 'AttemptSucceeded',
      at: new Date(startedAt + index + 12).toISOString(),
      data: {
        leg: 1,
        number: 1,
        route: 0,
        channel: 'WEBHOOK',
        provider: 'webhook',
        destinationId,
        startedAt: at,
        delivered: true,
      },
    };
    const envelope = { organizationId, commandId: randomUUID(), actor: 'bench' };
    const encoded = [requested, sent].map((event) => codec.encode(event, randomUUID(), envelope));
    waiting.push(log.append(`delivery-${randomUUID()}`, 'no-stream', encoded));
    if (waiting.length < 5_000) continue;
    await Promise.all(waiting);
    waiting = [];
  }
  await Promise.all(waiting);
}

const folder = await mkdtemp(join(tmpdir(), 'waybill-bench-'));
const postgres = await testDatabase();
const log = EmbeddedLog.open(folder);
await fill(log);
const head = await log.head();
await (await openDatabase({ connection: { connectionString: postgres.url }, entities: [] })).destroy();

let changed = () => {};
const runner = new ProjectionRunner(
  { reader: log, codec, postgres: { connectionString: postgres.url } },
  { progress: () => changed(), rebuild: () => changed() },
);
const until = (condition: () => boolean) =>
  new Promise<void>((resolve) => {
    changed = () => condition() && resolve();
  });
const rate = (since: number) => `${Math.round(Number(head) / ((performance.now() - since) / 1_000))} events/s`;

let start = performance.now();
const caughtUp = until(() => runner.progress().every(({ position }) => position === head));
runner.start();
await caughtUp;
console.log(`all projections: ${rate(start)}`);

for (const { name } of runner.progress()) {
  start = performance.now();
  const done = until(() =>
    runner.progress().some((projection) => projection.name === name && projection.rebuild?.state === 'done'),
  );
  await runner.rebuild(name);
  await done;
  console.log(`rebuild of ${name}: ${rate(start)}`);
}

await runner.stop();
await log.close();
await postgres.close();
await rm(folder, { recursive: true });
