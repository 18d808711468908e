import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { DomainEvent } from '../../../src/event-store/codec.js';
import { EventCodec } from '../../../src/event-store/codec.js';
import { EventStoreDb } from '../../../src/event-store/eventstoredb/event-store-db.js';
import { openDatabase } from '../../../src/platform/database.js';
import { ProjectionHost } from '../../../src/projections/runner/host.js';
import { type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';
import { failed, newDelivery, ORGANIZATION, requested, sent } from './world.js';

/** Where positions are bytes and not events, and instances have nothing in common but two servers. */
const PATIENCE = { timeout: 20_000, interval: 5 };
const codec = new EventCodec();
let server: EventStoreProcess;
let postgres: TestDatabase;
let writer: EventStoreDb;
let stores: EventStoreDb[];
let hosts: ProjectionHost[];

beforeAll(async () => {
  server = await startEventStore();
  postgres = await testDatabase();
  await (await openDatabase({ connection: { connectionString: postgres.url }, entities: [] })).destroy();
  writer = await EventStoreDb.connect(server.url);
  await Promise.all(Array.from({ length: 100 }, () => record(requested(), ...failed(), sent(2, 13))));
  stores = [await EventStoreDb.connect(server.url), await EventStoreDb.connect(server.url)];
  hosts = stores.map((reader) => {
    const connection = { connectionString: postgres.url };
    return new ProjectionHost({ reader, codec, postgres: connection, isAlone: false, leaseMs: 2_000, batchEvents: 50 });
  });
});
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.stop()));
  await Promise.all([writer, ...stores].map((store) => store.close()));
  await postgres.close();
  await server.stop();
});

async function record(...events: DomainEvent[]): Promise<bigint> {
  const envelope = { organizationId: ORGANIZATION, commandId: randomUUID(), actor: 'test' };
  const encoded = events.map((event) => codec.encode(event, randomUUID(), envelope));
  const answer = await writer.append(newDelivery().stream, 'no-stream', encoded);
  if (!answer.ok) throw new Error('it is a new stream');
  return answer.position;
}

it('instances that share an EventStoreDB count in events, and answer alike', async () => {
  const position = await record(requested());
  for (const status of (await hosts[0]?.status()) ?? []) {
    expect(status.head).toBe(position);
    expect(status.lagEvents).toBeGreaterThan(200);
    expect(status.lagEvents).toBeLessThan(800);
  }

  const changes = hosts.map((host) => host.changes(() => true));
  for (const host of hosts) host.start();
  for (const host of hosts) expect(await host.waitFor(position, 20_000)).toBe(true);
  for (const host of hosts)
    for (const status of await host.status()) expect(status).toMatchObject({ position, lagEvents: 0, lagSeconds: 0 });
  const wanted = await record(requested());
  for (const host of hosts) expect(await host.waitFor(wanted, 20_000)).toBe(true);
  for (const watched of changes) {
    const told = await watched.next();
    expect(told.value?.length).toBeGreaterThan(0);
    await watched.return?.();
  }

  const ends = hosts.map(async (host) => {
    for await (const rebuilds of host.rebuilds())
      for (const rebuild of rebuilds) if (rebuild.state === 'done') return rebuild;
    return undefined;
  });
  for (const host of hosts) await expect.poll(() => host.progress()[0]?.state, PATIENCE).toBe('running');
  const begun = await hosts[1]?.orders.rebuild('dashboard');
  expect(begun?.total).toBeGreaterThan(200);
  expect(begun?.total).toBeLessThan(800);
  for (const end of await Promise.all(ends)) {
    expect(end).toMatchObject({ id: begun?.id, processed: end?.total });
    expect(end?.total).toBeLessThan(800);
  }
});
