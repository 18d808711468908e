import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { digestsIn } from '../support/digests.js';
import { type EventStoreProcess, startEventStore } from '../support/eventstoredb/start.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, the rows of several instances: they share one EventStoreDB (the test server) and one Postgres, and are
 * killed, stopped for longer than their leases last, and started again.
 *
 * The short form is part of the tests; `npm run test:fault` runs the long one.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 20_000 : 600;
const KILLS = isLong ? 100 : 4;
const BULK = 20;
const INSTANCES = 3;
/** A lease lasts 10 s, and whoever takes it over looks once a second. */
const TAKE_OVER_MS = 15_000;

interface Instance {
  readonly dataDir: string;
  waybill: WaybillProcess;
}

let eventStore: EventStoreProcess;
let database: TestDatabase;
let receiver: WebhookReceiver;
let sql: pg.Pool;
let env: Record<string, string>;
let instances: Instance[] = [];

beforeAll(async () => {
  receiver = await startWebhookReceiver();
});
afterAll(() => receiver.close());

beforeEach(async () => {
  [eventStore, database] = await Promise.all([startEventStore(), testDatabase()]);
  sql = new pg.Pool({ connectionString: database.url });
  env = {
    EVENTSTORE_URL: eventStore.url,
    DATABASE_URL: database.url,
    WAYBILL_ADMIN_KEY: randomBytes(32).toString('base64url'),
  };
  receiver.received.length = 0;
  receiver.respond = () => ({ status: 204 });
});
afterEach(async () => {
  for (const { waybill, dataDir } of instances) {
    await waybill.kill();
    await removeDataDir(dataDir);
  }
  instances = [];
  await sql.end();
  await database.close();
  await eventStore.stop();
});

async function startInstance(): Promise<Instance> {
  const dataDir = await mkdtemp(join(tmpdir(), 'waybill-one-of-several-'));
  const instance = { dataDir, waybill: await startWaybill({ dataDir, env }) };
  instances.push(instance);
  return instance;
}

const partitions = async (): Promise<Record<string, number>> => {
  const { rows } = await sql.query<{ owner: string; n: number }>(
    'SELECT owner, count(*)::integer AS n FROM engine_partitions WHERE expires_at > now() GROUP BY owner',
  );
  return Object.fromEntries(rows.map(({ owner, n }) => [owner, n]));
};
const shares = async () => Object.values(await partitions()).sort((a, b) => a - b);

const REQUEST = `mutation ($inputs: [RequestDeliveryInput!]!, $key: String!) {
  requestDeliveries(inputs: $inputs, idempotencyKey: $key) { delivery { id } }
}`;
interface Requested {
  readonly requestDeliveries: readonly { readonly delivery: { readonly id: string } }[];
}
const webhook = (text: string, more: object = {}) => ({
  organizationId: 'hospital-001',
  content: { text },
  to: [{ channel: 'WEBHOOK', address: receiver.url }],
  ...more,
});

/** The same call again and again, at whichever instance, until one answers: what clients are told to do. */
async function request(key: string, inputs: readonly object[]): Promise<string[]> {
  for (let turn = 0; ; turn++) {
    const { waybill } = instances[turn % instances.length] as Instance;
    const answer = await waybill.graphql<Requested>(REQUEST, { inputs, key }).catch(() => undefined);
    if (answer?.data) return answer.data.requestDeliveries.map(({ delivery }) => delivery.id);
    expect(answer?.errors.map(({ extensions }) => extensions?.code) ?? []).not.toContain('BAD_USER_INPUT');
    await delay(20);
  }
}

async function untilAllEnded(count: number, timeout: number): Promise<void> {
  const counts = async () => {
    const { rows } = await sql.query('SELECT status, count(*)::integer AS n FROM deliveries GROUP BY status');
    return rows;
  };
  await expect.poll(counts, { timeout, interval: 200 }).toEqual([{ status: 'DELIVERED', n: count }]);
}

async function expectSameAfterRebuild({ waybill }: Instance): Promise<void> {
  const connection = { connectionString: database.url };
  const live = await digestsIn(connection);
  for (const name of Object.keys(live)) {
    // Where the writer has just died it is to be asked again.
    const codes = async () => {
      const { errors } = await waybill.graphql(`mutation { rebuildProjection(name: "${name}") { id } }`);
      const found = errors.map(({ extensions }) => extensions?.code);
      expect(found.filter((code) => code !== 'UNAVAILABLE')).toEqual([]);
      return found;
    };
    await expect.poll(codes, { timeout: 20_000 }).toEqual([]);
  }
  const states = async () => {
    const { projections } = await waybill.ask<{ projections: { rebuild: { state: string } | null }[] }>(
      '{ projections { rebuild { state } } }',
    );
    return projections.map(({ rebuild }) => rebuild?.state);
  };
  await expect.poll(states, { timeout: 60_000, interval: 200 }).toEqual(Object.keys(live).map(() => 'done'));
  await expect.poll(() => digestsIn(connection), { timeout: 30_000 }).toEqual(live);
}

describe('several instances', () => {
  it('share the deliveries, also when one joins, leaves or dies', { timeout: 120_000 }, async () => {
    const first = await startInstance();
    await expect.poll(shares, { timeout: 10_000 }).toEqual([16]);
    const second = await startInstance();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([8, 8]);
    const third = await startInstance();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([4, 6, 6]);

    // Each of them takes a request, for whichever partition, and each can be asked about all of them.
    const ids: string[] = [];
    for (const [index, { waybill }] of [first, second, third].entries()) {
      const { requestDeliveries } = await waybill.ask<Requested>(REQUEST, {
        inputs: Array.from({ length: 20 }, (_, item) => webhook(`${index}/${item}`)),
        key: `of ${index}`,
      });
      ids.push(...requestDeliveries.map(({ delivery }) => delivery.id));
    }
    await untilAllEnded(60, 30_000);
    for (const { waybill } of [first, second, third])
      expect(await waybill.ask('{ deliveries(filter: { status: [DELIVERED] }) { totalCount } }')).toEqual({
        deliveries: { totalCount: 60 },
      });
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(60);

    expect(await third.waybill.stop()).toMatchObject({ code: 0 });
    await expect.poll(shares, { timeout: 5_000 }).toEqual([8, 8]);
    await second.waybill.kill();
    await expect.poll(shares, { timeout: TAKE_OVER_MS }).toEqual([16]);
  });

  it('wait for each other’s deliveries', { timeout: 120_000 }, async () => {
    await startInstance();
    await startInstance();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([8, 8]);
    receiver.respond = async () => {
      await delay(300);
      return { status: 204 };
    };
    const first = await request(
      'first',
      Array.from({ length: 12 }, (_, n) => webhook(`first ${n}`)),
    );
    // Each waits for one that is as likely as not another instance's, and that may have ended before it is heard of.
    await request(
      'second',
      first.map((id, n) => webhook(`second ${n}`, { dependsOn: [id] })),
    );
    await untilAllEnded(24, 20_000);
  });

  it('one that was stopped for longer than its leases last commits nothing', { timeout: 120_000 }, async () => {
    const paused = await startInstance();
    await expect.poll(shares, { timeout: 10_000 }).toEqual([16]);
    // Its attempts are under way, and their outcomes not yet known, when it is stopped.
    let answer = () => {};
    const asked = new Promise<void>((resolve) => {
      receiver.respond = async () => {
        resolve();
        await new Promise<void>((go) => {
          const before = answer;
          answer = () => {
            before();
            go();
          };
        });
        return { status: 500 };
      };
    });
    const ids = await request(
      'paused',
      Array.from({ length: 10 }, (_, n) => webhook(`paused ${n}`)),
    );
    await asked;
    process.kill(paused.waybill.pid, 'SIGSTOP');
    receiver.respond = () => ({ status: 204 });
    const [owner] = Object.keys(await partitions());
    const second = await startInstance();
    const owners = async () => Object.keys(await partitions());
    await expect.poll(owners, { timeout: TAKE_OVER_MS }).not.toContain(owner);
    await expect.poll(shares, { timeout: TAKE_OVER_MS }).toEqual([16]);
    await untilAllEnded(10, 20_000);
    const events = async () => {
      const { deliveries } = await second.waybill.ask<{ deliveries: { edges: { node: { history: object[] } }[] } }>(
        '{ deliveries { edges { node { history { type } } } } }',
      );
      return deliveries.edges.map(({ node }) => node.history);
    };
    const truth = await events();
    answer();
    process.kill(paused.waybill.pid, 'SIGCONT');
    // It has come to, and shares the work again, once it has found out.
    await expect.poll(shares, { timeout: 20_000 }).toEqual([8, 8]);
    expect(await events()).toEqual(truth);
    expect(truth.flat()).toEqual(ids.flatMap(() => [{ type: 'DeliveryRequested' }, { type: 'AttemptSucceeded' }]));
    await expectSameAfterRebuild(second);
  });

  it(`${DELIVERIES} deliveries, ${KILLS} times kill -9`, { timeout: isLong ? 3_600_000 : 240_000 }, async () => {
    for (let count = 0; count < INSTANCES; count++) await startInstance();
    let isDone = false;
    const killer = (async () => {
      for (let kills = 0; kills < KILLS; kills++) {
        const before = receiver.received.length;
        while (receiver.received.length < before + DELIVERIES / KILLS / 4 && !isDone) await delay(5);
        // Not a wait for anything: the kill is to come at any moment of what is going on.
        await delay(Math.random() * 150);
        const victim = instances[Math.floor(Math.random() * INSTANCES)] as Instance;
        await victim.waybill.kill();
        victim.waybill = await startWaybill({ dataDir: victim.dataDir, env });
      }
    })();
    const ids: string[] = [];
    for (let batch = 0; batch < DELIVERIES / BULK; batch++)
      ids.push(
        ...(await request(
          `batch-${batch}`,
          Array.from({ length: BULK }, (_, item) => webhook(`delivery ${batch}/${item}`)),
        )),
      );
    isDone = true;
    await killer;
    expect(new Set(ids).size).toBe(DELIVERIES);
    await untilAllEnded(DELIVERIES, 120_000);
    // The receiver may have had some twice, under the same id; it can tell, and none is missing or of nobody.
    const seen = new Set(receiver.received.map(({ headers }) => headers['webhook-id']));
    expect([...seen].sort()).toEqual(ids.map((id) => `${id}_1`).sort());
    await expectSameAfterRebuild(instances[0] as Instance);
  });
});
