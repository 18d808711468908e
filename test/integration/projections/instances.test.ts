import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EventReader } from '../../../src/event-store/event-store.js';
import { projections } from '../../../src/projections/registry.js';
import type { ProjectionHost } from '../../../src/projections/runner/host.js';
import { type PostgresProxy, startPostgresProxy } from './postgres-proxy.js';
import { at, attempt, failed, newDelivery, ORGANIZATION, requested, sent, World } from './world.js';

/** Several instances share one log and one Postgres. Leases are short, so that what waits for their end is soon over. */
const QUICK = { leaseMs: 1_000 };
/** Nothing that takes less than this has waited for a lease to end. */
const FOR_EVER = { leaseMs: 600_000 };
const PATIENCE = { timeout: 20_000, interval: 5 };

let world: World;

beforeEach(async () => {
  world = await World.create();
});
afterEach(() => world.close());

/** Sees to it that a test which depends on who is the writer is not left to chance. */
async function hostsInOrder(...options: object[]): Promise<ProjectionHost[]> {
  const hosts: ProjectionHost[] = [];
  for (const each of options) {
    const host = world.host({ owner: `instance-${hosts.length}`, ...each });
    await host.ready;
    hosts.push(host);
  }
  return hosts;
}

const writer = async () => (await world.rows('select owner, epoch::integer from projection_writer'))[0];

/** Requested, failed once and sent: what is counted afterwards is wrong as soon as a batch was applied twice or not at all. */
async function record(count: number): Promise<bigint> {
  const all = Array.from({ length: count }, (_, index) =>
    world.record(newDelivery().stream, requested({}, index), ...failed(1, index + 2), sent(2, index + 9)),
  );
  await Promise.all(all);
  return await world.log.head();
}

async function expectCounted(deliveries: number): Promise<void> {
  const [health] = await world.rows('select deliveries::integer, failures::integer from destination_health');
  expect(health).toEqual({ deliveries: deliveries * 2, failures: deliveries });
  const [sums] = await world.rows('select sum(total)::integer as total from dashboard_hours');
  expect(sums).toEqual({ total: deliveries });
  expect(await world.rows('select count(*)::integer as n from attempts')).toEqual([{ n: deliveries * 2 }]);
}

describe('the writer', () => {
  it('is one of those that start together, and the others know how far it is', async () => {
    const hosts = ['a', 'b', 'c', 'd'].map((owner) => world.host({ owner }));
    await Promise.all(hosts.map((host) => host.ready));
    const position = await record(50);
    expect(await Promise.all(hosts.map((host) => host.waitFor(position, 20_000)))).toEqual([true, true, true, true]);
    await expectCounted(50);
    expect(await writer()).toMatchObject({ epoch: 1 });
    const connections = await world.rows(
      `select count(*)::integer as n from pg_stat_activity
       where datname = current_database() and application_name like 'waybill-projections/%'`,
    );
    expect(connections).toEqual([{ n: 1 }]);
    for (const host of hosts) {
      expect(host.position('dashboard')).toBe(position);
      await expect
        .poll(() => host.progress().map(({ state }) => state), PATIENCE)
        .toEqual(projections.map(() => 'running'));
      for (const status of await host.status()) expect(status).toMatchObject({ position, lagEvents: 0, parked: 0 });
    }
  });

  it('hands over when it stops, without anybody waiting for its lease to end', async () => {
    const [first, second] = (await hostsInOrder(FOR_EVER, FOR_EVER)) as [ProjectionHost, ProjectionHost];
    await record(10);
    await first.stop();
    expect(await second.waitFor(await record(10), 20_000)).toBe(true);
    expect(await writer()).toEqual({ owner: 'instance-1', epoch: 2 });
    await expectCounted(20);
  });

  it('is another one as soon as its connection is gone, whatever its lease says', async () => {
    const proxy = await proxyToPostgres();
    const [, second] = await hostsInOrder({ ...FOR_EVER, ...proxy.options }, QUICK);
    await record(10);
    await proxy.close();
    expect(await second?.waitFor(await record(10), 20_000)).toBe(true);
    expect(await writer()).toMatchObject({ owner: 'instance-1' });
    await expectCounted(20);
  });

  it('is at once the instance that was it before and starts again', async () => {
    const proxy = await proxyToPostgres();
    const [first] = await hostsInOrder({ owner: 'same', ...FOR_EVER, ...proxy.options });
    await first?.waitFor(await record(5), 20_000);
    proxy.stall();
    const again = world.host({ owner: 'same', ...FOR_EVER });
    expect(await again.waitFor(await record(5), 20_000)).toBe(true);
    expect(await writer()).toEqual({ owner: 'same', epoch: 2 });
    await proxy.close();
    await expectCounted(10);
  });

  it('is not an instance that is too old for the rows there are', async () => {
    const newer = projections.map((one) => (one.name === 'dashboard' ? { ...one, version: 2 } : one));
    const [first, old] = await hostsInOrder({ ...QUICK, projections: newer }, QUICK);
    const position = await record(5);
    expect(await old?.waitFor(position, 20_000)).toBe(true);
    await first?.stop();
    await expect.poll(() => old?.progress()[0]?.lastError, PATIENCE).toContain('dashboard was made by a newer version');
    expect(await writer()).toMatchObject({ owner: 'instance-0' });
    const next = world.host({ ...QUICK, projections: newer });
    expect(await next.waitFor(await record(5), 20_000)).toBe(true);
    expect(await old?.waitFor(await world.log.head(), 20_000)).toBe(true);
    await expect.poll(() => old?.progress()[0]?.state, PATIENCE).not.toBe('failing');
    await expectCounted(10);
  });

  it('that hangs in the middle of a batch keeps its locks for no longer than a transaction may take', async () => {
    const proxy = await proxyToPostgres();
    // Long enough that what follows does not let it end while the writer still renews it.
    const lease = { leaseMs: 4_000 };
    const [first, second] = (await hostsInOrder({ ...lease, ...proxy.options }, lease)) as [
      ProjectionHost,
      ProjectionHost,
    ];
    const lock = await world.sql.connect();
    await lock.query('begin; lock table attempts in access exclusive mode');
    // More than fits between two processes, so that a part of it is still on its way when nothing goes through any more.
    const providerMessageId = 'x'.repeat(100_000);
    const large = Array.from({ length: 400 }, () =>
      world.record(newDelivery().stream, requested(), {
        type: 'AttemptSucceeded',
        at: at(2),
        data: { ...attempt(1), delivered: true, providerMessageId },
      }),
    );
    await Promise.all(large);
    const inTransaction = (event: string) =>
      world.rows(
        `select pid from pg_stat_activity where datname = current_database() and xact_start is not null
         and application_name like 'waybill-projections/%' and wait_event_type = $1`,
        [event],
      );
    await expect.poll(() => inTransaction('Lock'), PATIENCE).toHaveLength(1);
    proxy.stall();
    await lock.query('commit');
    lock.release();
    await expect.poll(() => inTransaction('Client'), PATIENCE).toHaveLength(1);

    expect(await second.waitFor(await world.log.head(), 20_000)).toBe(true);
    expect(await writer()).toMatchObject({ owner: 'instance-1' });
    proxy.heal();
    expect(await first.waitFor(await record(5), 20_000)).toBe(true);
    expect(await writer()).toMatchObject({ owner: 'instance-1' });
    expect(await world.rows('select count(*)::integer as n from attempts')).toEqual([{ n: 410 }]);
    const [health] = await world.rows('select deliveries::integer from destination_health');
    expect(health).toEqual({ deliveries: 410 });
  });
});

describe('a reader', () => {
  it('shows its caller what was written, in little time', async () => {
    const [, reader] = await hostsInOrder(FOR_EVER, FOR_EVER);
    const waits: number[] = [];
    for (let index = 0; index < 40; index++) {
      const { id, stream } = newDelivery();
      const position = await world.record(stream, requested());
      const since = performance.now();
      expect(await reader?.waitFor(position, 20_000)).toBe(true);
      waits.push(performance.now() - since);
      expect(await world.rows('select status from deliveries where id = $1', [id])).toEqual([{ status: 'QUEUED' }]);
    }
    // Were it not told, it would be the half of what lies between two looks at a lease: minutes.
    expect(waits.sort((a, b) => a - b)[20]).toBeLessThan(500);
  });

  it('tells of every delivery that changes once it can be read, also while instances take turns', async () => {
    const hosts = await hostsInOrder(QUICK, QUICK, QUICK);
    const until = new AbortController();
    const seen = hosts.map(() => new Map<string, number>());
    const expected = new Map<string, number>();
    const watching = hosts.map(async (host, index) => {
      for await (const changes of host.changes(() => true, until.signal)) {
        const ids = changes.map(({ id, organizationId }) => {
          expect(organizationId).toBe(ORGANIZATION);
          return id;
        });
        const rows = await world.rows('select id, revision from deliveries where id = any($1)', [ids]);
        expect(rows).toHaveLength(ids.length);
        for (const row of rows) seen[index]?.set(row.id as string, row.revision as number);
      }
    });
    const writing = (async () => {
      for (let index = 0; index < 60; index++) {
        const deliveries = Array.from({ length: 5 }, newDelivery);
        await Promise.all(deliveries.map(({ stream }) => world.record(stream, requested(), ...failed())));
        for (const { id } of deliveries) expected.set(id, 2);
        await delay(20);
      }
    })();
    const taken = async (epoch: number) =>
      expect.poll(async () => ((await writer())?.epoch as number) >= epoch, PATIENCE).toBe(true);
    // As if its time were up: it finds out, and is a reader from then on.
    for (const epoch of [2, 3]) {
      await world.rows(`update projection_writer set expires_at = now() - interval '1 s', epoch = epoch + 1,
                        owner = 'nobody', backend = 0`);
      await taken(epoch + 1);
      // Some more is written by the one who has taken it, before it is taken again.
      await delay(200);
    }
    await writing;
    for (const watched of seen) await expect.poll(() => watched, PATIENCE).toEqual(expected);
    until.abort();
    await Promise.all(watching);
  });

  it('has a rebuild made that it is asked for, although nothing else happens, and all see how it gets on', async () => {
    const [first, second] = (await hostsInOrder(FOR_EVER, FOR_EVER)) as [ProjectionHost, ProjectionHost];
    await second.waitFor(await record(60), 20_000);
    const live = await world.digests();
    for (const { name } of projections) {
      const ends = [first, second].map(async (host) => {
        for await (const rebuilds of host.rebuilds())
          for (const rebuild of rebuilds) if (rebuild.name === name && rebuild.state !== 'running') return rebuild;
        return undefined;
      });
      const [begun, refused] = await Promise.allSettled([second.orders.rebuild(name), second.orders.rebuild(name)]);
      expect([begun?.status, refused?.status].sort()).toEqual(['fulfilled', 'rejected']);
      for (const end of await Promise.all(ends))
        expect(end).toMatchObject({ name, state: 'done', processed: 240, total: 240 });
      expect(await world.digests()).toEqual(live);
    }
    await expect(second.orders.rebuild('nonsense')).rejects.toMatchObject({ name: 'UnknownProjection' });
    const states = (host: ProjectionHost) => host.progress().map(({ rebuild }) => rebuild?.state);
    await expect.poll(() => states(second), PATIENCE).toEqual(projections.map(() => 'done'));
    expect(await writer()).toEqual({ owner: 'instance-0', epoch: 1 });
  });

  it('has several rebuilds made at once while much happens, and they give what one without haste gives', {
    timeout: 180_000,
  }, async () => {
    const [, second] = (await hostsInOrder({ ...FOR_EVER, batchEvents: 50 }, FOR_EVER)) as [
      ProjectionHost,
      ProjectionHost,
    ];
    const states = () => second.progress().map(({ rebuild }) => rebuild?.state);
    const done = projections.map(() => 'done');
    const patience = { timeout: 60_000, interval: 5 };
    await second.waitFor(await record(300), 20_000);
    const over = new AbortController();
    const writing = (async () => {
      // No faster than it is shown.
      while (!over.signal.aborted) await second.waitFor(await record(10), 20_000);
    })();
    try {
      await Promise.all(projections.map(({ name }) => second.orders.rebuild(name)));
      await expect.poll(states, patience).toEqual(done);
    } finally {
      over.abort();
      await writing;
    }
    expect(await second.waitFor(await world.log.head(), 20_000)).toBe(true);
    const hasty = await world.digests();
    const ids = new Set(second.progress().map(({ rebuild }) => rebuild?.id));
    for (const { name } of projections) await second.orders.rebuild(name);
    const isAnother = () => second.progress().every(({ rebuild }) => !ids.has(rebuild?.id));
    await expect.poll(() => [isAnother(), states()], patience).toEqual([true, done]);
    expect(await world.digests()).toEqual(hasty);
    expect(await writer()).toEqual({ owner: 'instance-0', epoch: 1 });
  });

  it('sees a rebuild that the writer is asked for, and makes nobody wait for it', async () => {
    const [first, second] = (await hostsInOrder(FOR_EVER, FOR_EVER)) as [ProjectionHost, ProjectionHost];
    await second.waitFor(await record(20), 20_000);
    const progress = second.rebuilds();
    const { id } = await first.orders.rebuild('attempts');
    expect(await second.waitFor(await record(5), 20_000)).toBe(true);
    for await (const [rebuild] of progress) {
      expect(rebuild?.id).toBe(id);
      if (rebuild?.state === 'done') break;
    }
    await expectCounted(25);
  });

  it('tells what is wrong with the writer, and with its own connection', async () => {
    const proxy = await proxyToPostgres();
    const [, second] = await hostsInOrder(
      { leaseMs: 4_000, reader: new DeafReader(world.log), stalledAfterMs: 200 },
      { leaseMs: 4_000, ...proxy.options },
    );
    await record(5);
    await expect
      .poll(() => second?.progress()[0], PATIENCE)
      .toMatchObject({
        state: 'failing',
        lastError: expect.stringMatching(/no progress for .* about 20 events are waiting/),
      });
    await proxy.close();
    await expect.poll(() => second?.progress()[0]?.lastError, PATIENCE).toMatch(/ECONN|closed|terminated/);
  });
});

/** A log that has something new and never says so. */
class DeafReader implements EventReader {
  constructor(private readonly log: EventReader) {}

  readAll: EventReader['readAll'] = (...about) => this.log.readAll(...about);
  readStream: EventReader['readStream'] = (...about) => this.log.readStream(...about);
  readLast: EventReader['readLast'] = (...about) => this.log.readLast(...about);
  readAllBackwards: EventReader['readAllBackwards'] = (...about) => this.log.readAllBackwards(...about);
  head: EventReader['head'] = () => this.log.head();
  eventsBetween: EventReader['eventsBetween'] = (...about) => this.log.eventsBetween(...about);
  async *subscribe({ signal }: { signal: AbortSignal }): AsyncGenerator<never> {
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
  }
}

const proxies = new Set<PostgresProxy>();
afterEach(async () => {
  for (const proxy of proxies) await proxy.close();
  proxies.clear();
});

async function proxyToPostgres() {
  const proxy = await startPostgresProxy(world.server.url);
  proxies.add(proxy);
  const close = async () => {
    proxies.delete(proxy);
    await proxy.close();
  };
  return { ...proxy, close, options: { postgres: proxy.connection } };
}
